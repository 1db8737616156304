//! `qfilter._native`: the data plane for Python. Converts, releases the GIL, maps errors and panics; decides nothing.

mod addresses;
mod answer;
mod engine;
mod judge;
mod packet;
mod replay;
mod server;

/// The compiled part of qfilter.
#[pyo3::pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::addresses::AddressList;
    #[pymodule_export]
    use crate::engine::{Engine, Suspended};
    #[pymodule_export]
    use crate::replay::Replay;
    #[pymodule_export]
    use crate::server::{PrivilegeError, Server, TakenError, UnsupportedError};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("VERSION", env!("CARGO_PKG_VERSION"))
    }
}
