//! qfilter's data plane: a compiled policy, a packet in, a verdict and its reason out. No I/O.

#![forbid(unsafe_code)]

mod bits;
pub mod conditions;
pub mod decode;
pub mod engine;
pub mod fields;
pub mod index;
pub mod literals;
pub mod malformed;
pub mod matching;
pub mod packet;
pub mod plan;
pub mod ranges;
pub mod regexes;
pub mod state;
pub mod value;
pub mod verdict;
