//! How long the index takes: policies of some shapes and sizes, packets that hit a rule, the time for the candidates and
//! what is left to ask. And how fast payloads are searched. `cargo run --release --example matcher`.

use std::hint::black_box;
use std::time::Instant;

use qfilter_core::fields::Field;
use qfilter_core::index::Index;
use qfilter_core::literals::Searcher;
use qfilter_core::malformed::Allow;
use qfilter_core::plan::{Addresses, Condition, Place, Plan, Rule, Test};
use qfilter_core::ranges::Ranges;
use qfilter_core::value::{Address, Value};

const PACKETS: usize = 256;

fn main() {
    println!("shape rules build_ms megabytes look_up_ns to_verdict_ns candidates dimensions");
    for shape in SHAPES {
        for rules in [1, 10, 100, 1_000, 10_000, 100_000] {
            measure(shape, rules);
        }
    }
    search();
}

/// Numbers without an order.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// What one rule demands: a range a field.
type Demands = Vec<(Field, u64, u64)>;
type Shape = (&'static str, fn(u64, &mut Random) -> Demands);

const SHAPES: [Shape; 6] = [
    ("prefixes", |_, random| {
        let (source, target) = (random.below(1 << 32) & !0xff, random.below(1 << 32) & !0xffff);
        vec![
            (Field::Protocol, 17, 17),
            (Field::Saddr, source, source | 0xff),
            (Field::Daddr, target, target | 0xffff),
            (Field::Dport, random.below(9_000), 9_000),
            (Field::Sport, 1_024, 65_535),
        ]
    }),
    ("pairs", |i, random| {
        let port = random.below(65_536);
        vec![
            (Field::Protocol, 17, 17),
            (Field::Saddr, 0x0a00_0000 + i, 0x0a00_0000 + i),
            (Field::Dport, port, port),
        ]
    }),
    ("one_net", |i, _| {
        vec![
            (Field::Protocol, 6, 6),
            (Field::Saddr, 0xc000_0200, 0xc000_02ff),
            (Field::Dport, i % 65_536, i % 65_536),
        ]
    }),
    ("overlapping", |_, random| {
        let (low, port) = (0x0a00_0000 + random.below(1 << 20), random.below(20_000));
        let (wide, ports) = (random.below(1 << 23), random.below(40_000));
        vec![
            (Field::Saddr, low, low + wide),
            (Field::Daddr, low, low + wide),
            (Field::Dport, port, port + ports),
        ]
    }),
    ("disjoint_halves", |i, _| {
        // Each dimension alone leaves a third of the rules, all together none.
        let field = [Field::Saddr, Field::Daddr, Field::Sport, Field::Dport];
        let bit = |shift: u64| ((i / 3) >> shift) & 1;
        field
            .iter()
            .enumerate()
            .map(|(n, field)| (*field, bit(n as u64) * 30_000, bit(n as u64) * 30_000 + 30_000 + i % 7))
            .collect()
    }),
    ("mixed_fields", |i, random| {
        let value = random.below(1 << 16);
        let fields = [
            Field::Saddr,
            Field::Daddr,
            Field::Sport,
            Field::Dport,
            Field::Length,
            Field::Protocol,
            Field::Ttl,
        ];
        let field = fields[i as usize % fields.len()];
        vec![(field, value & 0xff, value & 0xff | if i % 14 > 6 { 3 } else { 0 })]
    }),
];

fn plan(rules: usize, demands: impl Fn(usize) -> Demands) -> Plan {
    let mut addresses = Vec::new();
    let rules = (0..rules)
        .map(|i| {
            let tests = demands(i).into_iter().map(|(field, low, high)| {
                let test = if matches!(field, Field::Saddr | Field::Daddr) {
                    let v4 = Ranges::from_pairs([(low as u32, high as u32)]).expect("one range is in order");
                    let v6 = Ranges::from_pairs([]).expect("no range is in order");
                    addresses.push(Addresses { v4, v6 }.into());
                    Test::Addresses(addresses.len() - 1)
                } else {
                    Test::Ranges(Ranges::from_pairs([(low, high.max(low))]).expect("one range is in order"))
                };
                Condition::Field(field, 0, test)
            });
            rule(i, Condition::All(tests.collect()))
        })
        .collect();
    Plan {
        addresses,
        rules,
        ..empty()
    }
}

fn rule(i: usize, condition: Condition) -> Rule {
    Rule {
        id: format!("r{i}"),
        hooks: 0,
        end: i + 1,
        condition,
        limit: None,
        actions: Vec::new(),
        verdict: None,
        flow: false,
        place: Place::Native,
    }
}

fn empty() -> Plan {
    Plan {
        allow: Allow::default(),
        defaults: [None; 5],
        on_failure: [false; 8],
        deadline: None,
        mark_mask: 0,
        addresses: Vec::new(),
        sets: Vec::new(),
        counters: Vec::new(),
        rules: Vec::new(),
        literals: Vec::new(),
        regexes: Vec::new(),
    }
}

fn measure((name, shape): Shape, rules: usize) {
    let mut random = Random(1);
    let all: Vec<Demands> = (0..rules).map(|i| shape(i as u64, &mut random)).collect();
    let plan = plan(rules, |i| all[i].clone());
    let begun = processor_seconds();
    let index = Index::build(&plan, |_| None);
    let build = (processor_seconds() - begun) * 1e3;
    let packets: Vec<[Value<'static>; 44]> = (0..PACKETS).map(|_| packet(&all, &mut random)).collect();
    let mut scratch = index.scratch();
    let mut candidates = 0;
    let look_up = nanoseconds(|packet| {
        index.look_up(|field| packets[packet][field as usize], &mut scratch);
        black_box(&scratch);
    });
    let first = nanoseconds(|packet| {
        index.look_up(|field| packets[packet][field as usize], &mut scratch);
        black_box(index.next(&mut scratch, 0));
    });
    for packet in &packets {
        index.look_up(|field| packet[field as usize], &mut scratch);
        candidates +=
            std::iter::successors(index.next(&mut scratch, 0), |rule| index.next(&mut scratch, rule + 1)).count();
    }
    let structure = index.structure();
    let dimensions: Vec<_> = structure
        .dimensions
        .iter()
        .map(|one| format!("{}:{}/{}", one.field.name(), one.classes, one.vectors))
        .collect();
    let megabytes = structure.bytes as f64 / 1e6;
    let candidates = candidates as f64 / PACKETS as f64;
    println!(
        "{name} {rules} {build:.1} {megabytes:.2} {look_up:.0} {first:.0} {candidates:.1} {}",
        dimensions.join(" ")
    );
}

/// A packet that one of the rules wants.
fn packet(rules: &[Demands], random: &mut Random) -> [Value<'static>; 44] {
    let mut values = [Value::Absent; 44];
    for field in [Field::Saddr, Field::Daddr] {
        values[field as usize] = Value::Address(Address::V4(random.below(1 << 32) as u32));
    }
    for field in [Field::Sport, Field::Dport, Field::Length] {
        values[field as usize] = Value::Number(random.below(65_536));
    }
    for field in [Field::Protocol, Field::Ttl] {
        values[field as usize] = Value::Number(random.below(256));
    }
    for (field, low, high) in &rules[random.below(rules.len() as u64) as usize] {
        let number = low + random.below(high.max(low) - low + 1);
        values[*field as usize] = match field {
            Field::Saddr | Field::Daddr => Value::Address(Address::V4(number as u32)),
            _ => Value::Number(number),
        };
    }
    values
}

/// Of this thread, so that others on the machine do not count. See proc(5), schedstat.
fn processor_seconds() -> f64 {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").expect("proc is mounted");
    let nanoseconds = statistics
        .split(' ')
        .next()
        .and_then(|number| number.parse::<f64>().ok());
    nanoseconds.expect("the first number is the time on the processor") / 1e9
}

fn nanoseconds(mut work: impl FnMut(usize)) -> f64 {
    let run = |work: &mut dyn FnMut(usize)| {
        let begun = Instant::now();
        for i in 0..100 * PACKETS {
            work(i % PACKETS);
        }
        begun.elapsed().as_nanos() as f64 / (100 * PACKETS) as f64
    };
    (0..7).map(|_| run(&mut work)).fold(f64::INFINITY, f64::min)
}

fn search() {
    let mut random = Random(7);
    let mut word = |most: u64| -> Box<[u8]> {
        (0..4 + random.below(most))
            .map(|_| b'a' + random.below(26) as u8)
            .collect()
    };
    let literals: Vec<Box<[u8]>> = (0..100).map(|_| word(37)).collect();
    let dense: Vec<u8> = literals
        .iter()
        .cycle()
        .flat_map(|literal| literal.iter().copied())
        .take(65_000)
        .collect();
    let text: Vec<u8> = b"GET /index.html?user=alice&session=0123456789abcdef HTTP/1.1\r\nHost: www.example.org\r\nAccept: text/html,\
        application/xhtml+xml;q=0.9,*/*;q=0.8\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nCookie: theme=dark; id=42\r\n\r\n\
        <html><body><p>The quick brown fox jumps over the lazy dog.</p></body></html>\n"
        .iter().copied().cycle().take(65_000).collect();
    let noise: Vec<u8> = (0..65_000).map(|_| random.below(256) as u8).collect();
    let short = &text[..1_400];
    let searcher = Searcher::build(&Plan { literals, ..empty() }).expect("no pattern is there to fail");
    let mut found = searcher.found();
    for (name, payload) in [
        ("text", &text[..]),
        ("noise", &noise[..]),
        ("zeros", &vec![0; 65_000]),
        ("dense", &dense[..]),
        ("segment", short),
    ] {
        let begun = processor_seconds();
        let runs = 200_000_000 / payload.len();
        for _ in 0..runs {
            searcher.find(black_box(payload), &mut found);
            black_box(&found);
        }
        let speed = (runs * payload.len()) as f64 / (processor_seconds() - begun) / 1e9;
        println!("100 literals in {name}: {speed:.2} GB/s");
    }
}
