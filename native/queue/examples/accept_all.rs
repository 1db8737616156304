//! Accepts every packet of a queue until it is killed: what the loop itself costs. `accept_all [QUEUE [COPY_RANGE]]`

use std::error::Error;
use std::sync::Arc;

use qfilter_queue::{Cause, Final, Judge, Judged, Links, Queue, Queued, Settings, Ticket};

struct Accept;

impl Judge for Accept {
    type Suspended = ();
    type Answer = ();
    type Policy = ();

    fn judge(&mut self, _: &Queued<'_>) -> Judged<()> {
        Judged::Final(Final::ACCEPT)
    }

    fn policy(&mut self) {}

    fn judge_by(&mut self, (): (), packet: &Queued<'_>) -> Judged<()> {
        self.judge(packet)
    }

    fn flow(&mut self, _: &Queued<'_>) -> u64 {
        0
    }

    fn ask(&mut self, _: Ticket, _: &Queued<'_>, (): &()) -> bool {
        false
    }

    fn resume(&mut self, _: &Queued<'_>, (): (), _: Result<(), Cause>) -> Judged<()> {
        Judged::Final(Final::DROP)
    }

    fn fail(&mut self, _: Cause, _: Option<&Queued<'_>>, _: &str) -> Final {
        Final::DROP
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut settings = Settings::new(arguments.next().map_or(Ok(0), |number| number.parse())?);
    if let Some(bytes) = arguments.next() {
        settings.copy_range = bytes.parse()?;
    }
    let queue = Queue::open(settings, Arc::new(Links::open()?))?;
    for warning in queue.warnings() {
        eprintln!("{warning}");
    }
    queue
        .start(Accept)?
        .join()
        .map_err(|failure| failure.to_string().into())
}
