//! Packets that wait for an answer.

use std::time::Duration;

use qfilter_queue::{Handle, Settings};

use crate::judge::Obedient;
use crate::namespace::{PATIENCE, Pair, inside, open, queue_port, row, until};

fn serving(settings: Settings, judge: &Obedient) -> (Handle<String>, Pair) {
    let (queue, pair) = (open(settings), Pair::to(9));
    queue_port(9, 0);
    (queue.start(judge.clone()).unwrap(), pair)
}

fn answer(handle: &Handle<String>, judge: &Obedient, text: &str, answer: &str) {
    until(text, || judge.ticket(text).is_some());
    handle
        .answers()
        .give([(judge.ticket(text).unwrap(), answer.to_owned())])
        .unwrap();
}

fn end(handle: &Handle<String>) -> qfilter_queue::Snapshot {
    handle.stop(PATIENCE).unwrap();
    handle.join().unwrap();
    assert_eq!(row(0), None);
    handle.counters()
}

#[test]
fn others_overtake_a_packet_that_waits_and_its_flow_does_not() {
    inside(|| {
        let judge = Obedient::default();
        let (handle, pair) = serving(Settings::new(0), &judge);
        pair.send(&["a:wait", "b:accept", "a:accept", "b:drop", "c:accept"]);
        assert_eq!(pair.receive(2), ["b:accept", "c:accept"]);
        assert!(pair.is_empty());
        answer(&handle, &judge, "a:wait", "accept");
        assert_eq!(pair.receive(2), ["a:wait", "a:accept"]);
        let counters = end(&handle);
        assert_eq!((counters.accepted, counters.dropped, counters.waiting), (4, 1, 0));
        assert!(counters.errors.is_empty(), "{:?}", counters.errors);
        let lines = judge.lines();
        let place = |line: &str| lines.iter().position(|other| other == line).unwrap();
        assert!(
            place("judge a:accept") > place(r#"resume a:wait Ok("accept")"#),
            "{lines:?}"
        );
    });
}

#[test]
fn a_packet_that_waits_is_not_let_through_by_those_around_it() {
    inside(|| {
        let judge = Obedient::default();
        let (handle, pair) = serving(Settings::new(0), &judge);
        pair.send(&["b:accept 1", "b:accept 2", "a:wait", "b:accept 3", "b:accept 4"]);
        assert_eq!(
            pair.receive(4),
            ["b:accept 1", "b:accept 2", "b:accept 3", "b:accept 4"]
        );
        assert_eq!(row(0).unwrap()[2], 1, "it is still in the kernel's queue");
        answer(&handle, &judge, "a:wait", "drop");
        let counters = end(&handle);
        assert!(pair.is_empty());
        assert_eq!((counters.accepted, counters.dropped), (4, 1));
    });
}

#[test]
fn answers_come_in_any_order_late_and_twice() {
    inside(|| {
        let judge = Obedient::default();
        let (handle, pair) = serving(Settings::new(0), &judge);
        pair.send(&["a:wait", "b:wait", "c:wait"]);
        for text in ["c:wait", "a:wait", "b:wait"] {
            answer(&handle, &judge, text, "accept");
            assert_eq!(pair.receive(1), [text]);
        }
        answer(&handle, &judge, "b:wait", "drop");
        answer(&handle, &judge, "b:wait", "drop");
        let counters = end(&handle);
        assert_eq!((counters.accepted, counters.dropped, counters.late_answers), (3, 0, 2));
    });
}

#[test]
fn an_answer_can_be_another_question() {
    inside(|| {
        let judge = Obedient::default();
        let (handle, pair) = serving(Settings::new(0), &judge);
        pair.send(&["a:wait", "a:drop", "a:accept"]);
        until("asked", || judge.ticket("a:wait").is_some());
        let first = judge.ticket("a:wait").unwrap();
        handle.answers().give([(first, "wait".to_owned())]).unwrap();
        until("asked again", || judge.ticket("a:wait").unwrap() != first);
        answer(&handle, &judge, "a:wait", "accept");
        assert_eq!(pair.receive(2), ["a:wait", "a:accept"]);
        let counters = end(&handle);
        assert_eq!((counters.accepted, counters.dropped), (2, 1));
    });
}

#[test]
fn without_an_answer_in_time_a_packet_gets_the_outcome_of_the_deadline() {
    inside(|| {
        let judge = Obedient::accepting_failures();
        let settings = Settings {
            deadline: Some(Duration::from_millis(50)),
            ..Settings::new(0)
        };
        let (handle, pair) = serving(settings, &judge);
        pair.send(&["a:wait", "a:accept"]);
        assert_eq!(
            pair.receive(2),
            ["a:wait", "a:accept"],
            "nothing else comes that could wake the loop"
        );
        let counters = end(&handle);
        assert_eq!(
            judge.lines(),
            ["judge a:wait", "resume a:wait Err(Deadline)", "judge a:accept"]
        );
        assert_eq!(
            (counters.accepted, counters.last_failure.as_str()),
            (2, "no answer in time")
        );
        assert_eq!(counters.failures.map(|(_, count)| count), [0, 0, 0, 0, 1]);
    });
}

#[test]
fn where_no_room_is_left_or_nobody_takes_the_question_it_is_an_overload() {
    inside(|| {
        let judge = Obedient::default();
        let (handle, pair) = serving(
            Settings {
                waiting: 2,
                ..Settings::new(0)
            },
            &judge,
        );
        pair.send(&[
            "r:refuse",
            "a:wait",
            "a:accept",
            "a:accept too many",
            "b:wait",
            "b:accept",
        ]);
        assert_eq!(pair.receive(1), ["b:accept"]);
        answer(&handle, &judge, "a:wait", "accept");
        assert_eq!(pair.receive(2), ["a:wait", "a:accept"]);
        let counters = end(&handle);
        assert_eq!((counters.accepted, counters.dropped), (3, 3));
        assert_eq!(counters.failures.map(|(_, count)| count), [0, 0, 0, 3, 0]);
        let failed = |line: &&String| line.contains("Overload") || line.contains("fail");
        assert_eq!(
            judge.lines().iter().filter(failed).collect::<Vec<_>>(),
            [
                "resume r:refuse Err(Overload)",
                "fail overload a:accept too many no room for one more packet that waits",
                "resume b:wait Err(Overload)"
            ]
        );
    });
}

#[test]
fn a_stop_waits_for_answers_as_long_as_it_has_patience() {
    inside(|| {
        let judge = Obedient::default();
        let (handle, pair) = serving(Settings::new(0), &judge);
        pair.send(&["a:wait", "b:wait", "b:accept"]);
        until("asked", || judge.ticket("b:wait").is_some());
        handle.stop(PATIENCE).unwrap();
        answer(&handle, &judge, "a:wait", "accept");
        assert_eq!(pair.receive(1), ["a:wait"]);
        assert!(row(0).is_some(), "it is still served");
        handle.stop(Duration::ZERO).unwrap();
        handle.join().unwrap();
        assert_eq!(
            pair.receive(1),
            ["b:accept"],
            "what stood behind is judged, once the first has failed"
        );
        assert!(pair.is_empty());
        let counters = handle.counters();
        assert_eq!((counters.accepted, counters.dropped, counters.waiting), (2, 1, 0));
        assert_eq!(counters.last_failure, "the queue was stopped before the answer came");
        assert_eq!(row(0), None);
        let answers = handle.answers();
        drop(handle);
        answers
            .give([(judge.ticket("b:wait").unwrap(), "accept".to_owned())])
            .unwrap();
    });
}

#[test]
fn among_thousands_each_packet_gets_its_own_verdict() {
    inside(|| {
        let judge = Obedient::default();
        let (handle, pair) = serving(Settings::new(0), &judge);
        let mut expected = 0;
        for round in 0..40 {
            let words = ["accept", "accept", "accept", "drop", "wait"];
            let word = |number: usize| words[(number * 7 + number / 5 + round) % words.len()];
            // A flow for each: all overtake those that wait.
            let texts: Vec<String> = (0..150)
                .map(|number| format!("{}:{} {round}", "f".repeat(number + 1), word(number)))
                .collect();
            pair.send(&texts.iter().map(String::as_str).collect::<Vec<_>>());
            let of = |word: &str| {
                texts
                    .iter()
                    .filter(|text| text.contains(word))
                    .cloned()
                    .collect::<Vec<_>>()
            };
            assert_eq!(pair.receive(of("accept").len()), of("accept"));
            let mut waiting = of("wait");
            waiting.reverse();
            for text in &waiting {
                until("asked", || judge.ticket(text).is_some());
            }
            let verdict = |at: usize| if at.is_multiple_of(2) { "accept" } else { "drop" };
            let answers = waiting.iter().enumerate();
            let answers = answers.map(|(at, text)| (judge.ticket(text).unwrap(), verdict(at).to_owned()));
            handle.answers().give(answers.collect::<Vec<_>>()).unwrap();
            let accepted: Vec<String> = waiting.into_iter().step_by(2).rev().collect();
            assert_eq!(
                pair.receive(accepted.len()),
                accepted,
                "in the order in which they came"
            );
            expected += accepted.len() + of("accept").len();
        }
        let counters = end(&handle);
        assert!(pair.is_empty());
        assert_eq!((counters.received, counters.accepted), (6_000, expected as u64));
        assert!(counters.errors.is_empty() && counters.lost == 0, "{counters:?}");
    });
}
