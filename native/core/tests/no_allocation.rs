//! A packet that changes no set, limit or flow allocates nothing, whatever rules look at it.

mod counting;

use counting::allocated;
use jiff::tz::TimeZone;
use qfilter_core::engine::{Desk, Engine, Now, Outcome};
use qfilter_core::fields::FIELDS;
use qfilter_core::packet::{Hook, Packet};
use qfilter_core::plan::Plan;
use serde::Serialize;
use serde_bytes::Bytes;
use serde_json::{Value, json};

fn row(name: &str) -> usize {
    FIELDS.iter().position(|(_, each)| *each == name).unwrap()
}

fn rule(number: usize, condition: &Value, actions: &Value, verdict: &Value) -> Value {
    json!({
        "id": format!("r{number}"), "hooks": 0, "end": number + 1, "match": condition, "limit": null,
        "actions": actions, "verdict": verdict, "flow": false, "place": "native",
    })
}

/// Of the kinds of conditions one after the other; none of the packets matches it.
fn condition(number: usize) -> Value {
    let port = json!(["ranges", [[20_000 + number, 20_000 + number]]]);
    match number % 6 {
        0 => json!([
            "all",
            [
                ["field", row("saddr"), 0, ["addresses", 0]],
                ["field", row("dport"), 0, port]
            ]
        ]),
        1 => json!([
            "field",
            row("payload"),
            0,
            ["contains", format!("needle {number}").as_bytes()]
        ]),
        2 => json!(["field", row("payload"), 0, ["regex", "(?-u)never[0-9]+"]]),
        3 => json!(["not", ["any", [["field", row("ttl"), 0, ["ranges", [[0, 255]]]]]]]),
        4 => json!(["field", row("saddr"), 1, ["set", 0]]),
        _ => json!(["bytes", 1, 4, [1, number % 256], [255, 255], false]),
    }
}

/// Rules that match nothing, one that logs, counts and marks everything, and one that accepts.
fn plan(rules: usize) -> Plan {
    let names: Vec<&str> = FIELDS.iter().map(|(_, name)| *name).collect();
    let (none, drop) = (json!([]), json!([1, 0]));
    let mut all: Vec<Value> = (0..rules)
        .map(|number| rule(number, &condition(number), &none, &drop))
        .collect();
    let actions = json!([["log"], ["count", 0], ["mark", 1, 15]]);
    all.push(rule(rules, &json!(["all", []]), &actions, &Value::Null));
    let outside = json!(["field", row("saddr"), 0, ["not", ["set", 0]]]);
    all.push(rule(rules + 1, &outside, &none, &json!([0, 0])));
    let document = Document {
        rest: json!({
            "version": 2, "fields": names, "allow": [], "defaults": [[1, 0], [1, 0], [1, 0], [1, 0], [1, 0]],
            "on_failure": vec![false; 8], "mark_mask": 0,
            "sets": [{"name": "s", "type": "address", "dynamic": true, "timeout": null, "size": 9, "elements": {"addresses": 0}}],
            "counters": ["all"], "rules": all,
        }),
        addresses: [Packed {
            v4: Bytes::new(&[10, 0, 0, 0, 10, 255, 255, 255]),
            v6: Bytes::new(&[]),
        }],
    };
    Plan::from_bytes(&rmp_serde::to_vec_named(&document).unwrap()).unwrap()
}

/// JSON has no bytes.
#[derive(Serialize)]
struct Document<'b> {
    #[serde(flatten)]
    rest: Value,
    addresses: [Packed<'b>; 1],
}

#[derive(Serialize)]
struct Packed<'b> {
    v4: &'b Bytes,
    v6: &'b Bytes,
}

fn packets() -> Vec<Vec<u8>> {
    let udp = |payload: &[u8]| {
        let length = (28 + payload.len()) as u8;
        let mut data = vec![
            0x45, 0, 0, length, 0, 1, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 2, 198, 51, 100, 2,
        ];
        data.extend([0x9C, 0x40, 0x23, 0x28, 0, length - 20, 0, 0]);
        data.extend(payload);
        data
    };
    let cut = udp(b"needles")[..30].to_vec();
    vec![
        udp(b""),
        vec![0x45; 3],
        cut,
        udp(&[b'n'; 200]),
        udp(b"never mind, a needle"),
    ]
}

/// How often memory was allocated for each packet.
fn allocations(engine: &Engine, desk: &mut Desk) -> Vec<u64> {
    let count = |data: &Vec<u8>| {
        let packet = Packet {
            iifname: Some(b"eth0"),
            ..Packet::new(data, Hook::Forward)
        };
        let before = allocated();
        let outcome = engine.decide(
            &packet,
            Now {
                monotonic: 1,
                wall: 0.0,
            },
            desk,
        );
        assert!(matches!(outcome, Outcome::Verdict(_)));
        allocated() - before
    };
    packets().iter().map(count).collect()
}

#[test]
fn no_packet_allocates() {
    for rules in [6, 60, 6_000] {
        let engine = Engine::new(plan(rules), TimeZone::UTC).unwrap();
        let mut desk = engine.desk();
        // A pattern's lazy automaton grows by what it meets for the first time.
        allocations(&engine, &mut desk);
        assert_eq!(allocations(&engine, &mut desk), [0; 5], "{rules} rules");
        assert_eq!(desk.effects.len(), 1, "it was logged");
    }
}
