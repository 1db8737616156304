//! qfilter's data plane: a compiled policy, a packet in, a verdict and its reason out. No I/O.

#![forbid(unsafe_code)]

pub mod decode;
pub mod fields;
pub mod index;
pub mod malformed;
pub mod packet;
pub mod plan;
pub mod ranges;
pub mod state;
pub mod value;
