//! Real queues, each test in a network namespace of its own. Skipped, with the reason, where that cannot be.

mod judge;
mod namespace;

mod changes;
mod failures;
mod interfaces;
mod verdicts;
mod waiting;
