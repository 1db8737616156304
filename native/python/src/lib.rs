//! `qfilter._native`: the data plane for Python. Converts, releases the GIL, maps errors and panics; decides nothing.

mod answer;
mod engine;
mod judge;
mod packet;
mod server;

use pyo3::prelude::*;

/// The compiled part of qfilter.
#[pymodule]
mod _native {
    use super::*;

    #[pymodule_export]
    use crate::engine::{Engine, Suspended};
    #[pymodule_export]
    use crate::server::{PrivilegeError, Server, TakenError, UnsupportedError};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("VERSION", env!("CARGO_PKG_VERSION"))
    }
}
