//! What becomes of a packet, and why. See `qfilter/model/verdict.py`.

use std::fmt;

use crate::packet::Hook;
use crate::plan::Decision;
use crate::value::{Cause, What};

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A rule.
    Rule,
    /// The hook's default.
    Default,
    /// A failure cause.
    Cause(Cause),
}

/// More of a failure cause; its text is the verdict's detail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Detail {
    /// Rule and default need none.
    None,
    /// A rule decided an earlier packet of the flow.
    Flow,
    /// What could not be known, or the headers' lie.
    What(What),
    /// The policy is not in force on that hook.
    NoDefault(Hook),
}

impl fmt::Display for Detail {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Flow => out.write_str("flow"),
            Self::What(what) => what.fmt(out),
            Self::NoDefault(hook) => {
                write!(
                    out,
                    "LookupError: hook {}: the policy has no default for it",
                    hook.name()
                )
            }
        }
    }
}

/// What a matched rule wants recorded: a log or a capture action, by index into its rule's actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Index of the rule.
    pub rule: u32,
    /// Index of the action.
    pub action: u32,
}

/// A decision and why it was made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// What is done.
    pub decision: Decision,
    /// Who decided.
    pub reason: Reason,
    /// The rule that decided, or that could not be decided.
    pub rule: Option<u32>,
    /// More of a failure cause.
    pub detail: Detail,
    /// The packet's new mark; None leaves it as it is.
    pub mark: Option<u32>,
}
