//! All literals that rules look for in a packet's own payload, found by one search that runs at most once a packet.
//!
//! Vectorised searchers (Teddy) go over the payload, each for the beginnings of some literals; beginnings are fewer than
//! literals. A payload that is full of hits would make them slow, so that after a number of hits an Aho-Corasick automaton
//! takes over: the time is linear whatever is in the packet.

use std::collections::BTreeMap;

use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::packed::{self, MatchKind};
use aho_corasick::{Anchored, BuildError, Span, automaton, dfa};

use crate::bits::ones;
use crate::plan::{Plan, Test};
use crate::regexes::Regexes;

/// Beginnings for one vectorised searcher: it takes no more.
const MOST_IN_GROUP: usize = 64;

/// With more groups than this the automaton is faster.
const MOST_GROUPS: usize = 8;

/// Bytes of a beginning: as many as the searchers filter by. Shorter literals spoil the filter of longer ones, and have
/// groups of their own.
const BEGINNING: usize = 4;

/// Shorter payloads are not worth a vectorised search.
const SHORT_PAYLOAD: usize = 64;

/// As many bytes go through the automaton in the time of one hit of a vectorised searcher.
const BYTES_A_HIT: usize = 256;

/// As many literals are compared in the time of one hit.
const COMPARED_A_HIT: usize = 32;

/// So many hits are nothing to worry about.
const FREE_HITS: usize = 8;

/// Literals of so many bytes together get a table of all transitions, of at most a kilobyte a byte.
const MOST_DENSE: usize = 4_096;

/// Which literals a search has found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    words: Box<[u64]>,
}

impl Found {
    /// Whether a literal was found, by its number in the plan.
    #[inline]
    pub fn contains(&self, literal: usize) -> bool {
        self.words[literal / 64] >> (literal % 64) & 1 != 0
    }

    /// Their numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.words
            .iter()
            .enumerate()
            .flat_map(|(word, bits)| ones(*bits).map(move |bit| word * 64 + bit))
    }

    fn insert(&mut self, literal: usize) {
        self.words[literal / 64] |= 1 << (literal % 64);
    }
}

/// The literals and patterns of a plan.
pub struct Searcher {
    literals: Literals,
    regexes: Regexes,
}

impl Searcher {
    /// Of a plan.
    ///
    /// # Errors
    /// Names the rule whose pattern cannot be compiled.
    pub fn build(plan: &Plan) -> Result<Self, String> {
        let mut literals = plan.literals.clone();
        let regexes = Regexes::build(plan, &mut literals)?;
        let literals = Literals::build(&literals).map_err(|error| format!("payload literals: {error}"))?;
        Ok(Self { literals, regexes })
    }

    /// Memory for what a search finds.
    pub fn found(&self) -> Found {
        Found {
            words: vec![0; self.literals.count.div_ceil(64)].into(),
        }
    }

    /// Searches a payload for all literals of the plan.
    pub fn find(&self, payload: &[u8], found: &mut Found) {
        self.literals.find(payload, found);
    }

    /// Whether a pattern may match in the payload of a search; false is certain.
    pub fn may_match(&self, regex: usize, found: &Found) -> bool {
        self.regexes
            .needs(regex)
            .is_none_or(|literals| literals.iter().any(|literal| found.contains(*literal)))
    }

    /// The literals of which a payload must hold one so that a test can be true of it; None where there are no such.
    pub fn needs(&self, test: &Test) -> Option<Vec<usize>> {
        match test {
            Test::Contains(pattern, Some(literal)) if !pattern.is_empty() => Some(vec![*literal]),
            Test::Regex(_, regex) => self.regexes.needs(*regex).map(<[_]>::to_vec),
            Test::Any(inner) => inner
                .iter()
                .map(|each| self.needs(each))
                .collect::<Option<Vec<_>>>()
                .map(|literals| literals.concat()),
            Test::All(inner) => inner.iter().find_map(|each| self.needs(each)),
            _ => None,
        }
    }

    /// Whether a pattern is found in a text.
    pub fn regex(&self, regex: usize, text: &[u8]) -> bool {
        self.regexes.is_match(regex, text)
    }
}

/// Literals by number. One that is empty is everywhere; the others are *sought*.
struct Literals {
    count: usize,
    empty: Option<usize>,
    sought: Vec<Box<[u8]>>,
    /// By place among those sought.
    numbers: Vec<usize>,
    /// By place among those sought: the numbers of those that are in it, its own among them.
    inside: Vec<Box<[usize]>>,
    groups: Vec<Group>,
    automaton: Automaton,
}

struct Group {
    searcher: packed::Searcher,
    /// By beginning: places of the literals among those sought.
    places: Vec<Vec<usize>>,
}

enum Automaton {
    Dense(dfa::DFA),
    Sparse(NFA),
}

impl Literals {
    fn build(literals: &[Box<[u8]>]) -> Result<Self, BuildError> {
        let empty = literals.iter().position(|literal| literal.is_empty());
        let numbers: Vec<usize> = (0..literals.len()).filter(|literal| Some(*literal) != empty).collect();
        let sought: Vec<&[u8]> = numbers.iter().map(|literal| &*literals[*literal]).collect();
        let automaton = Automaton::new(&sought)?;
        let inside = |literal: &&[u8]| {
            automaton
                .inside(literal)
                .into_iter()
                .map(|place| numbers[place])
                .collect()
        };
        Ok(Self {
            count: literals.len(),
            empty,
            inside: sought.iter().map(inside).collect(),
            groups: groups(&sought).unwrap_or_default(),
            sought: sought.iter().map(|literal| Box::from(*literal)).collect(),
            numbers,
            automaton,
        })
    }

    fn find(&self, payload: &[u8], found: &mut Found) {
        found.words.fill(0);
        if let Some(empty) = self.empty {
            found.insert(empty);
        }
        if self.numbers.is_empty() {
            return;
        }
        if self.groups.is_empty() || payload.len() < SHORT_PAYLOAD || !self.find_by_groups(payload, found) {
            self.automaton.scan(payload, |place| self.mark(place, found));
        }
    }

    /// False when it gave up, because there were too many hits for the way that it had come.
    fn find_by_groups(&self, payload: &[u8], found: &mut Found) -> bool {
        let mut hits = 0;
        for (number, Group { searcher, places }) in self.groups.iter().enumerate() {
            let mut rest = Span::from(0..payload.len());
            while let Some(hit) = searcher.find_in(payload, rest) {
                // Of those that begin here it is the longest: the others are inside it.
                let places = &places[hit.pattern().as_usize()];
                hits += 1 + places.len() / COMPARED_A_HIT;
                if hits > FREE_HITS + (number * payload.len() + hit.start()) / BYTES_A_HIT {
                    return false;
                }
                self.mark_beginning(places, &payload[hit.start()..], found);
                rest.start = hit.start() + 1;
            }
        }
        true
    }

    fn mark_beginning(&self, places: &[usize], text: &[u8], found: &mut Found) {
        for place in places {
            if text.starts_with(&self.sought[*place]) {
                self.mark(*place, found);
            }
        }
    }

    fn mark(&self, place: usize, found: &mut Found) {
        if !found.contains(self.numbers[place]) {
            self.inside[place].iter().for_each(|literal| found.insert(*literal));
        }
    }
}

/// None when there are too many, or the processor lacks the instructions.
fn groups(sought: &[&[u8]]) -> Option<Vec<Group>> {
    let mut beginnings: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (place, literal) in sought.iter().enumerate() {
        let beginning = &literal[..literal.len().min(BEGINNING)];
        let short = literal.len() < BEGINNING;
        beginnings.entry((short, beginning)).or_default().push(place);
    }
    let beginnings: Vec<Beginning<'_>> = beginnings.into_iter().collect();
    let kinds = beginnings.chunk_by(|((one, _), _), ((other, _), _)| one == other);
    let groups: Vec<_> = kinds.flat_map(|kind| even(kind, MOST_IN_GROUP)).collect();
    if groups.len() > MOST_GROUPS {
        return None;
    }
    groups.into_iter().map(group).collect()
}

/// Whether it is a short literal, its bytes; the places of the literals that begin so.
type Beginning<'l> = ((bool, &'l [u8]), Vec<usize>);

fn group(beginnings: &[Beginning<'_>]) -> Option<Group> {
    let mut builder = packed::Config::new().match_kind(MatchKind::LeftmostLongest).builder();
    builder.extend(beginnings.iter().map(|((_, beginning), _)| beginning));
    Some(Group {
        searcher: builder.build()?,
        places: beginnings.iter().map(|(_, places)| places.clone()).collect(),
    })
}

/// Parts of about the same size.
fn even<T>(items: &[T], most: usize) -> impl Iterator<Item = &[T]> {
    items.chunks(items.len().div_ceil(items.len().div_ceil(most).max(1)).max(1))
}

impl Automaton {
    fn new(patterns: &[&[u8]]) -> Result<Self, BuildError> {
        if patterns.iter().map(|pattern| pattern.len()).sum::<usize>() <= MOST_DENSE {
            dfa::DFA::new(patterns).map(Self::Dense)
        } else {
            NFA::new(patterns).map(Self::Sparse)
        }
    }

    /// Tells the longest literal that ends at each byte; the others that end there are inside it.
    fn scan(&self, text: &[u8], longest: impl FnMut(usize)) {
        match self {
            Self::Dense(automaton) => scan(automaton, text, longest),
            Self::Sparse(automaton) => scan(automaton, text, longest),
        }
    }

    /// All literals in a text.
    fn inside(&self, text: &[u8]) -> Vec<usize> {
        let mut inside = match self {
            Self::Dense(automaton) => all_in(automaton, text),
            Self::Sparse(automaton) => all_in(automaton, text),
        };
        inside.sort_unstable();
        inside.dedup();
        inside
    }
}

fn scan<A: automaton::Automaton>(automaton: &A, text: &[u8], mut longest: impl FnMut(usize)) {
    each_match(automaton, text, |state| {
        longest(automaton.match_pattern(state, 0).as_usize());
    });
}

fn all_in<A: automaton::Automaton>(automaton: &A, text: &[u8]) -> Vec<usize> {
    let mut all = Vec::new();
    each_match(automaton, text, |state| {
        all.extend((0..automaton.match_len(state)).map(|i| automaton.match_pattern(state, i).as_usize()));
    });
    all
}

fn each_match<A: automaton::Automaton>(automaton: &A, text: &[u8], mut matched: impl FnMut(automaton::StateID)) {
    let Ok(mut state) = automaton.start_state(Anchored::No) else {
        unreachable!("an automaton that is not asked for anchored searches has an unanchored start")
    };
    for byte in text {
        state = automaton.next_state(Anchored::No, state, *byte);
        if automaton.is_special(state) && automaton.is_match(state) {
            matched(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use memchr::memmem;
    use proptest::prelude::*;

    use super::*;
    use crate::fields::Field;
    use crate::plan::{Condition, Place, Rule};

    fn plan(literals: Vec<Box<[u8]>>, regexes: &[&str]) -> Plan {
        let rule = |(index, regex): (usize, &&str)| Rule {
            id: format!("r{index}"),
            hooks: 0,
            end: index + 1,
            condition: Condition::Field(Field::Payload, 0, Test::Regex((*regex).into(), index)),
            limit: None,
            actions: Vec::new(),
            verdict: None,
            flow: false,
            place: Place::Native,
        };
        Plan {
            rules: regexes.iter().enumerate().map(rule).collect(),
            literals,
            regexes: regexes.iter().map(|regex| Box::from(*regex)).collect(),
            ..Plan::default()
        }
    }

    fn bytes(texts: &[&str]) -> Vec<Box<[u8]>> {
        texts.iter().map(|text| text.as_bytes().into()).collect()
    }

    fn holds_against_memmem(searcher: &Searcher, literals: &[Box<[u8]>], payload: &[u8], found: &mut Found) {
        searcher.find(payload, found);
        for (number, literal) in literals.iter().enumerate() {
            let there = memmem::find(payload, literal).is_some();
            assert_eq!(found.contains(number), there, "{:?}", String::from_utf8_lossy(literal));
        }
    }

    #[test]
    fn every_literal_is_found_wherever_it_stands() {
        let literals = bytes(&[
            "", "a", "GET ", "GET", "ET /", "needle", "eed", "needles", "\r\n\r\n", "xyz", "zz",
        ]);
        let searcher = Searcher::build(&plan(literals.clone(), &[])).unwrap();
        let filler = "-".repeat(300);
        let mut found = searcher.found();
        for middle in [
            "",
            "GET /",
            "needles",
            "needl",
            "eneedle",
            "xyzz\r\n\r\n",
            &"needle".repeat(200),
            &"a".repeat(500),
        ] {
            for payload in [
                middle.to_owned(),
                format!("{filler}{middle}"),
                format!("{filler}{middle}{filler}"),
            ] {
                holds_against_memmem(&searcher, &literals, payload.as_bytes(), &mut found);
            }
        }
    }

    #[test]
    fn literals_of_any_number_are_found() {
        for count in [1, 40, 100, 500, 2_000] {
            let literals: Vec<Box<[u8]>> = (0..count)
                .map(|i| format!("literal {i};").into_bytes().into())
                .collect();
            let searcher = Searcher::build(&plan(literals.clone(), &[])).unwrap();
            let payload = format!("{} literal 7; literal {}; literal 99", ".".repeat(1_000), count - 1);
            holds_against_memmem(&searcher, &literals, payload.as_bytes(), &mut searcher.found());
        }
    }

    fn a_text(most: usize) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(
            prop_oneof![9 => proptest::sample::select(b"ab".to_vec()), 1 => any::<u8>()],
            0..most,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn what_is_found_is_what_is_there(
            literals in proptest::collection::btree_set(a_text(9), 0..60),
            payloads in proptest::collection::vec(a_text(400), 4),
        ) {
            let literals: Vec<Box<[u8]>> = literals.into_iter().map(Into::into).collect();
            let searcher = Searcher::build(&plan(literals.clone(), &[])).unwrap();
            let mut found = searcher.found();
            for payload in payloads {
                holds_against_memmem(&searcher, &literals, &payload, &mut found);
            }
        }

        #[test]
        fn a_pattern_matches_only_where_it_may(payloads in proptest::collection::vec(a_text(200), 8)) {
            let searcher = Searcher::build(&plan(bytes(&["aba"]), &PATTERNS)).unwrap();
            let mut found = searcher.found();
            for payload in payloads {
                searcher.find(&payload, &mut found);
                for (regex, pattern) in PATTERNS.iter().enumerate() {
                    let matches = searcher.regex(regex, &payload);
                    assert!(!matches || searcher.may_match(regex, &found), "{pattern:?} in {payload:?}");
                }
            }
        }
    }

    const PATTERNS: [&str; 10] = [
        "aba+b",
        "^(abba|baab)",
        "(?i)AbA[ab]",
        "a?b?",
        "(aab|bba){2,}",
        "[ab]{3}bbb$",
        "(aaaa|b)",
        r"\babab\b",
        "a.*?bbab",
        "(?s)aab.aab",
    ];

    #[test]
    fn patterns_need_literals() {
        let rows: [(&str, &str, bool); 8] = [
            ("select.+from", "nothing of it", false),
            ("select.+from", "select", true),
            ("(union|select) all", "union all", true),
            ("(union|select) all", "union select", false),
            ("(?i)cmd\\.exe", "CMD.EXE", true),
            ("[0-9]+", "no digit", true),
            ("(password)?", "", true),
            ("x(admin|root)+y", "user", false),
        ];
        for (pattern, payload, expected) in rows {
            let searcher = Searcher::build(&plan(Vec::new(), &[pattern])).unwrap();
            let mut found = searcher.found();
            searcher.find(payload.as_bytes(), &mut found);
            assert_eq!(searcher.may_match(0, &found), expected, "{pattern} in {payload:?}");
        }
    }

    #[test]
    fn a_pattern_that_cannot_be_compiled_is_told_with_its_rule() {
        let too_large = "(?:a{1000}){1000}";
        for (pattern, said) in [("(", "unclosed group"), (too_large, "exceeded limit")] {
            let error = Searcher::build(&plan(Vec::new(), &["fine", pattern]))
                .map(|_| ())
                .unwrap_err();
            assert!(
                error.starts_with(&format!("rule \"r1\": pattern {pattern:?}: ")),
                "{error}"
            );
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_pattern_reads_bytes() {
        let searcher = Searcher::build(&plan(Vec::new(), &[r"(?-u)\xff\x00.\xfe"])).unwrap();
        assert!(searcher.regex(0, b"\x01\xff\x00\x80\xfe"));
        assert!(!searcher.regex(0, b"\xff\x00\n\xfe"));
    }
}
