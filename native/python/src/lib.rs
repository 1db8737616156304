//! `qfilter._native`: the data plane for Python. Converts, releases the GIL, maps errors and panics; decides nothing.

use pyo3::prelude::*;

/// The compiled part of qfilter.
#[pymodule]
mod _native {
    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("VERSION", env!("CARGO_PKG_VERSION"))
    }
}
