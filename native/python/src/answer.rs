//! What a verdict is to the kernel. See `qfilter/queues/verdicts.py`.

use qfilter_core::plan::Kind;
use qfilter_core::verdict::Verdict;
use qfilter_queue::Final;

/// The answer for a packet that arrived with `mark`. `own` is the number of the queue that it is in: sent there again it
/// would come back unchanged, for ever.
///
/// A reject goes back through the chain with its code in the bits of `mark_mask`, where qfilter's REJECT rules wait for it.
///
/// # Errors
/// Says what is wrong with a verdict that would set those bits in any other way, which a later hook would take for a
/// reject, and with its own queue.
pub fn answer(verdict: &Verdict, mark: u32, mark_mask: u32, own: u16) -> Result<Final, String> {
    let new = verdict.mark.unwrap_or(mark);
    if new & mark_mask != 0 {
        return Err(format!(
            "mark {new:#x}: expected 32 bits, none of {mark_mask:#x}, which hand rejects back"
        ));
    }
    let argument = verdict.decision.argument;
    let decided = match verdict.decision.kind {
        Kind::Drop => return Ok(Final::DROP),
        Kind::Accept => Final::ACCEPT,
        Kind::Repeat => Final::REPEAT,
        Kind::Queue if argument == own => {
            return Err(format!(
                "queue {argument}: the packet is in that queue, expected another"
            ));
        }
        Kind::Queue => Final::queue(argument),
        Kind::Reject if mark_mask == 0 => {
            return Err(format!("mark mask {mark_mask:#x}: expected four adjacent bits of 32"));
        }
        Kind::Reject => {
            return Ok(Final::REPEAT.with_mark(new | u32::from(argument) << mark_mask.trailing_zeros()));
        }
    };
    Ok(verdict.mark.map_or(decided, |mark| decided.with_mark(mark)))
}
