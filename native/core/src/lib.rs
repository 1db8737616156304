//! qfilter's data plane: a compiled policy, a packet in, a verdict and its reason out. No I/O.

#![forbid(unsafe_code)]
