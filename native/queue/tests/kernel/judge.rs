//! A judge that does what the datagram says, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use qfilter_queue::{Cause, Final, Judge, Judged, Queued, Ticket};

/// Bytes of the headers of IPv4 and UDP before a datagram's text.
const HEADERS: usize = 28;

/// What a judge was asked, a line each; and the tickets of what waits, by text.
#[derive(Default)]
pub struct Log {
    pub lines: Vec<String>,
    pub tickets: Vec<(String, Ticket)>,
}

#[derive(Clone, Default)]
pub struct Obedient {
    pub log: Arc<Mutex<Log>>,
    /// The outcome of every failure.
    pub failure: Option<Final>,
}

impl Obedient {
    pub fn accepting_failures() -> Self {
        Self {
            failure: Some(Final::ACCEPT),
            ..Self::default()
        }
    }

    pub fn lines(&self) -> Vec<String> {
        self.log.lock().unwrap().lines.clone()
    }

    /// The ticket of the waiting packet with that text; the last one where there were several.
    pub fn ticket(&self, text: &str) -> Option<Ticket> {
        let log = self.log.lock().unwrap();
        log.tickets
            .iter()
            .rev()
            .find(|(known, _)| known == text)
            .map(|(_, ticket)| *ticket)
    }

    fn write(&self, line: String) {
        self.log.lock().unwrap().lines.push(line);
    }
}

pub fn text(packet: &Queued<'_>) -> String {
    String::from_utf8_lossy(packet.payload.get(HEADERS..).unwrap_or_default()).into_owned()
}

/// A text is a verdict, and after a blank whatever tells it from others; `a:` before it is its flow.
fn decided(text: &str) -> Judged<()> {
    let text = text.split_once(':').map_or(text, |(_, rest)| rest);
    match text.split(' ').next().unwrap() {
        "accept" => Judged::Final(Final::ACCEPT),
        "drop" => Judged::Final(Final::DROP),
        "mark" => Judged::Final(Final::ACCEPT.with_mark(7)),
        "repeat" => Judged::Final(Final::REPEAT.with_mark(9)),
        "queue" => Judged::Final(Final::queue(1)),
        "wait" | "refuse" => Judged::Wait(()),
        other => panic!("no verdict: {other}"),
    }
}

impl Judge for Obedient {
    type Suspended = ();
    type Answer = String;
    type Policy = ();

    fn judge(&mut self, packet: &Queued<'_>) -> Judged<()> {
        let text = text(packet);
        self.write(format!("judge {text}"));
        decided(&text)
    }

    fn policy(&mut self) {}

    fn judge_by(&mut self, (): (), packet: &Queued<'_>) -> Judged<()> {
        self.judge(packet)
    }

    fn flow(&mut self, packet: &Queued<'_>) -> u64 {
        text(packet)
            .split_once(':')
            .map_or(0, |(flow, _)| flow.bytes().map(u64::from).sum())
    }

    fn ask(&mut self, ticket: Ticket, packet: &Queued<'_>, (): &()) -> bool {
        let text = text(packet);
        let taken = !text.contains("refuse");
        if taken {
            self.log.lock().unwrap().tickets.push((text, ticket));
        }
        taken
    }

    fn resume(&mut self, packet: &Queued<'_>, (): (), answer: Result<String, Cause>) -> Judged<()> {
        self.write(format!("resume {} {answer:?}", text(packet)));
        match answer {
            Ok(answer) => decided(&answer),
            Err(_) => Judged::Final(self.failure.unwrap_or(Final::DROP)),
        }
    }

    fn fail(&mut self, cause: Cause, packet: Option<&Queued<'_>>, words: &str) -> Final {
        self.write(format!("fail {cause} {} {words}", packet.map(text).unwrap_or_default()));
        self.failure.unwrap_or(Final::DROP)
    }
}
