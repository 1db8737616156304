//! The patterns of a plan. One that can only match where certain literals are runs on a payload only when the search for
//! literals has found one of those.

use std::collections::HashMap;

use regex_automata::meta::{Config, Regex};
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::util::syntax;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Hir, HirKind};

use crate::plan::{Condition, Plan, Test};

/// Bytes that a compiled pattern may take.
const MOST_MEMORY: usize = 10 << 20;

/// Bytes that a pattern may keep of what it has learned; it stays linear without.
const CACHE: usize = 256 << 10;

/// A pattern that needs one of more literals than this runs always.
const MOST_LITERALS: usize = 16;

/// Literals that are shorter are in every other payload.
const SHORTEST: usize = 3;

/// Beyond this length a literal does not get rarer.
const LONG: usize = 8;

/// Patterns by number.
pub struct Regexes(Vec<Pattern>);

struct Pattern {
    regex: Regex,
    needs: Option<Box<[usize]>>,
}

impl Regexes {
    /// Those of a plan; the literals that they need are added to `literals`.
    ///
    /// # Errors
    /// Names the rule whose pattern cannot be compiled, and says why.
    pub fn build(plan: &Plan, literals: &mut Vec<Box<[u8]>>) -> Result<Self, String> {
        let mut numbers: HashMap<Box<[u8]>, usize> = literals.iter().cloned().zip(0..).collect();
        let mut number = |literal: Box<[u8]>| {
            *numbers.entry(literal).or_insert_with_key(|literal| {
                literals.push(literal.clone());
                literals.len() - 1
            })
        };
        let pattern = |(index, text): (usize, &str)| {
            let regex = compile(text).map_err(|error| {
                format!(
                    "rule {:?}: pattern {text:?}: {error}",
                    rule_of(plan, index).unwrap_or("?")
                )
            })?;
            let needs = required(text).map(|literals| literals.into_iter().map(&mut number).collect());
            Ok(Pattern { regex, needs })
        };
        plan.regexes
            .iter()
            .map(|text| &**text)
            .enumerate()
            .map(pattern)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The literals of which a text must hold one so that a pattern can match in it; None where there are no such.
    pub fn needs(&self, regex: usize) -> Option<&[usize]> {
        self.0[regex].needs.as_deref()
    }

    /// Whether a pattern is found in a text.
    pub fn is_match(&self, regex: usize, text: &[u8]) -> bool {
        self.0[regex].regex.is_match(text)
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    let config = Config::new()
        .utf8_empty(false)
        .which_captures(WhichCaptures::None)
        .nfa_size_limit(Some(MOST_MEMORY))
        .hybrid_cache_capacity(CACHE);
    Regex::builder()
        .configure(config)
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .build(pattern)
        .map_err(|error| std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string))
}

fn rule_of(plan: &Plan, regex: usize) -> Option<&str> {
    plan.rules
        .iter()
        .find(|rule| in_condition(&rule.condition, regex))
        .map(|rule| rule.id.as_str())
}

fn in_condition(condition: &Condition, regex: usize) -> bool {
    match condition {
        Condition::All(inner) | Condition::Any(inner) => inner.iter().any(|each| in_condition(each, regex)),
        Condition::Not(inner) => in_condition(inner, regex),
        Condition::Field(_, _, test) => in_test(test, regex),
        Condition::Bytes(_) | Condition::Python => false,
    }
}

fn in_test(test: &Test, regex: usize) -> bool {
    match test {
        Test::Regex(_, index) => *index == regex,
        Test::Not(inner) => in_test(inner, regex),
        Test::Any(inner) | Test::All(inner) => inner.iter().any(|each| in_test(each, regex)),
        _ => false,
    }
}

/// Literals of which every match holds one.
fn required(pattern: &str) -> Option<Vec<Box<[u8]>>> {
    let hir = ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .build()
        .parse(pattern)
        .ok()?;
    required_by(&hir)
}

fn required_by(hir: &Hir) -> Option<Vec<Box<[u8]>>> {
    match hir.kind() {
        HirKind::Capture(capture) => required_by(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => required_by(&repetition.sub),
        HirKind::Alternation(choices) => {
            let all: Vec<Vec<Box<[u8]>>> = choices.iter().map(required_by).collect::<Option<_>>()?;
            Some(all.concat()).filter(|literals| good(literals))
        }
        HirKind::Concat(parts) => {
            let beginnings = (0..parts.len()).filter_map(|i| beginning(&Hir::concat(parts[i..].to_vec())));
            beginnings
                .chain(parts.iter().filter_map(required_by))
                .max_by_key(|literals| worth(literals))
        }
        _ => beginning(hir),
    }
}

/// Literals with one of which every match begins.
fn beginning(hir: &Hir) -> Option<Vec<Box<[u8]>>> {
    let mut extractor = Extractor::new();
    extractor
        .kind(ExtractKind::Prefix)
        .limit_total(MOST_LITERALS)
        .limit_literal_len(MOST_LITERALS);
    let literals = extractor.extract(hir);
    let literals = literals
        .literals()?
        .iter()
        .map(|literal| literal.as_bytes().into())
        .collect::<Vec<_>>();
    Some(literals).filter(|literals| good(literals))
}

fn shortest(literals: &[Box<[u8]>]) -> usize {
    literals.iter().map(|literal| literal.len()).min().unwrap_or(0)
}

fn good(literals: &[Box<[u8]>]) -> bool {
    literals.len() <= MOST_LITERALS && shortest(literals) >= SHORTEST
}

fn worth(literals: &[Box<[u8]>]) -> (usize, std::cmp::Reverse<usize>) {
    (shortest(literals).min(LONG), std::cmp::Reverse(literals.len()))
}
