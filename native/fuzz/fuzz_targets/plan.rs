//! Any bytes as a plan document, and documents whose nodes were exchanged. What is taken as a plan can be put in force,
//! and the index leaves every verdict as it is when rule by rule is asked.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use qfilter_core::conditions::View;
use qfilter_core::decode::decode;
use qfilter_core::engine::Outcome;
use qfilter_core::literals::Searcher;
use qfilter_core::plan::Plan;
use qfilter_core::value::Truth;
use qfilter_fuzz::{NOW, engine, nodes, packet};

/// Packets as `qfilter_fuzz::packet` takes them: TCP, UDP, a fragment, `ICMPv6` behind an extension header, a tunnel.
const PACKETS: [&[u8]; 6] = [
    b"\x7f\x01\0\0\x45\0\0\x2e\0\x07\0\0\x40\x06\0\0\xc0\0\x02\x01\xc6\x33\x64\x01\x04\0\0\x50\0\0\0\x09\0\0\0\0\x50\x02\x02\0\0\0\0\0GET / ",
    b"\x00\x13\0\0\x45\0\0\x1f\0\x07\0\0\x40\x11\0\0\xc0\0\x02\x01\xc6\x33\x64\x01\x04\0\0\x35\0\x0b\0\0abc",
    b"\xff\x20\x05\0\x45\0\0\x30\0\x07\0\xb9\x40\x11\0\0\xc0\0\x02\x01\xc6\x33\x64\x01\x04\0\0\x35\0\x1c\0\0abcabcabcabcabcabcab",
    b"\x7f\x02\0\0\x60\0\0\0\0\x10\x3c\x40\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\x3a\0\x01\x04\0\0\0\0\x80\0\0\0\0\0\0\0",
    b"\x03\x04\0\0\x45\0\0\x34\0\x07\0\0\x40\x04\0\0\xc0\0\x02\x01\xc6\x33\x64\x01\x45\0\0\x20\0\x07\0\0\x40\x11\0\0\xc0\0\x02\x01\xc6\x33\x64\x01\x04\0\x01\xbb\0\x0c\0\0GETa",
    b"\x80\x01\x01\0\x45\0\x01\x14\0\x07\0\0\x40\x06\0\0\xc0\0\x02\x01\xc6\x33\x64\x01",
];

fuzz_target!(|document: &[u8]| {
    let Ok(plan) = Plan::from_bytes(document) else { return };
    let Ok(judged) = engine(plan.clone()) else { return };
    let mut desk = judged.desk();
    for packet in PACKETS.into_iter().filter_map(packet) {
        let mut outcome = judged.decide(&packet, NOW, &mut desk);
        while let Outcome::Ask(suspended) = outcome {
            outcome = judged.resume(&packet, suspended, Truth::False, &mut desk);
        }
    }
    let plan = without_memory(plan);
    let (judged, searcher) = (engine(plan.clone()), Searcher::build(&plan));
    let (judged, searcher) = (judged.expect("the same patterns"), searcher.expect("the same"));
    let mut desk = judged.desk();
    for packet in PACKETS.into_iter().filter_map(packet) {
        let Ok(decoded) = decode(&packet, plan.allow) else {
            continue;
        };
        let view = View::new(&judged, &packet, decoded, NOW, searcher.found());
        if let Outcome::Verdict(verdict) = judged.decide(&packet, NOW, &mut desk) {
            assert_eq!(verdict.rule, rule_by_rule(&plan, &view), "{packet:?}");
        }
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    match nodes::exchanged(&data[..size], seed) {
        Some(changed) if !seed.is_multiple_of(8) && changed.len() <= max_size => {
            data[..changed.len()].copy_from_slice(&changed);
            changed.len()
        }
        _ => fuzzer_mutate(data, size, max_size),
    }
});

/// Rules that remember nothing and change nothing: what a packet gets depends on the packet alone.
fn without_memory(mut plan: Plan) -> Plan {
    for rule in &mut plan.rules {
        (rule.limit, rule.flow) = (None, false);
        rule.actions.clear();
    }
    plan
}

/// The rule that decides or that cannot be decided, found without the index; None when it is the default's turn, and
/// when the policy is not in force on the packet's hook.
fn rule_by_rule(plan: &Plan, view: &View<'_, '_>) -> Option<u32> {
    plan.defaults[view.packet.hook as usize]?;
    let mut next = 0;
    while let Some(rule) = plan.rules.get(next) {
        let applies = Truth::from(rule.applies(view.packet.hook));
        match Truth::every([applies, view.holds(&rule.condition)]) {
            Truth::True if rule.verdict.is_none() => next += 1,
            Truth::False => next = rule.end,
            _ => return Some(next as u32),
        }
    }
    None
}
