//! A packet that waited for Python goes on with the very rule that was asked, whatever it looks like by then.

use jiff::tz::TimeZone;
use qfilter_core::engine::{Engine, Now, Outcome};
use qfilter_core::fields::Field;
use qfilter_core::packet::{Hook, Packet};
use qfilter_core::plan::{Condition, Decision, Kind, Place, Plan, Rule, Test};
use qfilter_core::ranges::Ranges;
use qfilter_core::value::Truth;
use qfilter_core::verdict::{Reason, Verdict};

const NOW: Now = Now {
    monotonic: 0,
    wall: 0.0,
};
const DROP: Decision = Decision {
    kind: Kind::Drop,
    argument: 0,
};
const ACCEPT: Decision = Decision {
    kind: Kind::Accept,
    argument: 0,
};

fn rule(number: usize, condition: Condition, place: Place, verdict: Decision) -> Rule {
    Rule {
        id: format!("r{number}"),
        hooks: 0,
        end: number + 1,
        condition,
        limit: None,
        actions: Vec::new(),
        verdict: Some(verdict),
        flow: false,
        place,
    }
}

fn longer_than(bytes: u64) -> Condition {
    let ranges = Ranges::from_pairs([(bytes, u64::MAX)]).expect("one range is in order");
    Condition::Field(Field::Length, 0, Test::Ranges(ranges))
}

/// 0: from lan, and Python says so: drop. 1: long: accept. By default: drop.
fn engine() -> Engine {
    let lan = Condition::Field(Field::Iifname, 0, Test::Equals(b"lan".as_slice().into()));
    let plan = Plan {
        defaults: [Some(DROP); 5],
        rules: vec![
            rule(0, Condition::All([lan, Condition::Python].into()), Place::Python, DROP),
            rule(1, longer_than(1_000), Place::Native, ACCEPT),
        ],
        ..Plan::default()
    };
    Engine::new(plan, TimeZone::UTC).expect("there is no pattern to fail")
}

fn packet(iifname: &[u8]) -> Packet<'_> {
    static ECHO: [u8; 28] = [
        0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 8, 0, 0xf7, 0xff, 0, 0, 0, 0,
    ];
    Packet {
        iifname: Some(iifname),
        ..Packet::new(&ECHO, Hook::Forward)
    }
}

fn verdict(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Verdict(verdict) => verdict,
        Outcome::Ask(suspended) => panic!("asks again for rule {}", suspended.rule),
    }
}

#[test]
fn an_answer_is_of_the_rule_that_was_asked_also_when_the_interface_has_another_name_by_then() {
    let engine = engine();
    let rows = [
        (b"lan".as_slice(), Truth::True, Reason::Rule, Some(0)),
        (b"lan".as_slice(), Truth::False, Reason::Default, None),
        (b"lan2".as_slice(), Truth::True, Reason::Rule, Some(0)),
        (b"lan2".as_slice(), Truth::False, Reason::Default, None),
    ];
    for (name, answer, reason, rule) in rows {
        let mut desk = engine.desk();
        let Outcome::Ask(suspended) = engine.decide(&packet(b"lan"), NOW, &mut desk) else {
            panic!("rule 0 needs Python");
        };
        let found = verdict(engine.resume(&packet(name), suspended, answer, &mut desk));
        assert_eq!((found.reason, found.rule, found.decision), (reason, rule, DROP));
    }
}
