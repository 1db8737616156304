//! `qfilter.model.packet.Packet` as the core takes it.

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use qfilter_core::packet::{HOOKS, Hook, Packet};

/// A packet that lives on its own, so that it can wait.
#[derive(Clone, Debug)]
pub struct Owned {
    data: Vec<u8>,
    hook: Hook,
    wire_length: u64,
    iifname: Option<Vec<u8>>,
    oifname: Option<Vec<u8>>,
    physin: Option<Vec<u8>>,
    physout: Option<Vec<u8>>,
    mark: u32,
    uid: Option<u32>,
    gid: Option<u32>,
    ct_state: Option<u8>,
    ct_mark: Option<u32>,
    hwaddr: Option<Vec<u8>>,
    timestamp: Option<f64>,
    checksum_ready: bool,
}

impl Owned {
    /// Reads a Python packet's attributes.
    ///
    /// # Errors
    /// What Python raises when one is missing or of another type, ValueError for an unknown hook.
    pub fn from_python(packet: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = packet.py();
        let data = packet.getattr(intern!(py, "data"))?;
        Ok(Self {
            data: data.cast::<PyBytes>()?.as_bytes().to_vec(),
            hook: hook(&packet.getattr(intern!(py, "hook"))?)?,
            wire_length: packet.getattr(intern!(py, "wire_length"))?.extract()?,
            iifname: text(&packet.getattr(intern!(py, "iifname"))?)?,
            oifname: text(&packet.getattr(intern!(py, "oifname"))?)?,
            physin: text(&packet.getattr(intern!(py, "physin"))?)?,
            physout: text(&packet.getattr(intern!(py, "physout"))?)?,
            mark: packet.getattr(intern!(py, "mark"))?.extract()?,
            uid: packet.getattr(intern!(py, "uid"))?.extract()?,
            gid: packet.getattr(intern!(py, "gid"))?.extract()?,
            ct_state: packet.getattr(intern!(py, "ct_state"))?.extract()?,
            ct_mark: packet.getattr(intern!(py, "ct_mark"))?.extract()?,
            hwaddr: hwaddr(&packet.getattr(intern!(py, "hwaddr"))?)?,
            timestamp: packet.getattr(intern!(py, "timestamp"))?.extract()?,
            checksum_ready: packet.getattr(intern!(py, "checksum_ready"))?.extract()?,
        })
    }

    /// A copy of a packet that is somebody else's.
    pub fn copy(packet: &Packet<'_>) -> Self {
        let copy = |text: Option<&[u8]>| text.map(<[u8]>::to_vec);
        Self {
            data: packet.data.to_vec(),
            hook: packet.hook,
            wire_length: packet.wire_length,
            iifname: copy(packet.iifname),
            oifname: copy(packet.oifname),
            physin: copy(packet.physin),
            physout: copy(packet.physout),
            mark: packet.mark,
            uid: packet.uid,
            gid: packet.gid,
            ct_state: packet.ct_state,
            ct_mark: packet.ct_mark,
            hwaddr: copy(packet.hwaddr),
            timestamp: packet.timestamp,
            checksum_ready: packet.checksum_ready,
        }
    }

    /// Bytes of the packet that are here.
    pub fn size(&self) -> usize {
        self.data.len()
    }

    /// As Python's `Packet` takes it, by keyword.
    pub fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let fields = PyDict::new(py);
        fields.set_item(intern!(py, "data"), PyBytes::new(py, &self.data))?;
        fields.set_item(intern!(py, "hook"), self.hook.name())?;
        fields.set_item(intern!(py, "wire_length"), self.wire_length)?;
        fields.set_item(intern!(py, "mark"), self.mark)?;
        fields.set_item(intern!(py, "uid"), self.uid)?;
        fields.set_item(intern!(py, "gid"), self.gid)?;
        fields.set_item(intern!(py, "ct_state"), self.ct_state)?;
        fields.set_item(intern!(py, "ct_mark"), self.ct_mark)?;
        fields.set_item(intern!(py, "timestamp"), self.timestamp)?;
        fields.set_item(intern!(py, "checksum_ready"), self.checksum_ready)?;
        for (name, text) in [
            (intern!(py, "iifname"), &self.iifname),
            (intern!(py, "oifname"), &self.oifname),
            (intern!(py, "physin"), &self.physin),
            (intern!(py, "physout"), &self.physout),
            (intern!(py, "hwaddr"), &self.hwaddr),
        ] {
            fields.set_item(name, text.as_deref().map(|text| PyBytes::new(py, text)))?;
        }
        Ok(fields)
    }

    /// As the core takes it.
    pub fn view(&self) -> Packet<'_> {
        Packet {
            data: &self.data,
            hook: self.hook,
            wire_length: self.wire_length,
            iifname: self.iifname.as_deref(),
            oifname: self.oifname.as_deref(),
            physin: self.physin.as_deref(),
            physout: self.physout.as_deref(),
            mark: self.mark,
            uid: self.uid,
            gid: self.gid,
            ct_state: self.ct_state,
            ct_mark: self.ct_mark,
            hwaddr: self.hwaddr.as_deref(),
            timestamp: self.timestamp,
            checksum_ready: self.checksum_ready,
        }
    }
}

/// A hook by its name.
pub fn hook(value: &Bound<'_, PyAny>) -> PyResult<Hook> {
    let name = value.cast::<PyString>()?;
    let name = name.to_str()?;
    let found = HOOKS.into_iter().find(|hook| hook.name() == name);
    found.ok_or_else(|| PyValueError::new_err(format!("hook {name:?}: expected one of netfilter's")))
}

/// UTF-8; an interface's name that is none comes with surrogates, and goes back to the bytes that it was.
pub fn text(value: &Bound<'_, PyAny>) -> PyResult<Option<Vec<u8>>> {
    if value.is_none() {
        return Ok(None);
    }
    let name = value.cast::<PyString>()?;
    if let Ok(plain) = name.to_str() {
        return Ok(Some(plain.as_bytes().to_vec()));
    }
    let raw = name.call_method1(intern!(value.py(), "encode"), ("utf-8", "surrogateescape"))?;
    Ok(Some(raw.cast::<PyBytes>()?.as_bytes().to_vec()))
}

fn hwaddr(value: &Bound<'_, PyAny>) -> PyResult<Option<Vec<u8>>> {
    if value.is_none() {
        return Ok(None);
    }
    let raw = value.cast::<PyBytes>()?.as_bytes();
    Ok(Some(spell(raw, &mut vec![0; SPELLED * raw.len()]).to_vec()))
}

/// Bytes of text for each byte of a hardware address.
pub const SPELLED: usize = 3;

/// A hardware address as text, such as `02:00:5e:00:53:01`, in memory of the caller's: as much of it as fits there.
pub fn spell<'m>(address: &[u8], memory: &'m mut [u8]) -> &'m [u8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let length = (SPELLED * address.len().min(memory.len() / SPELLED)).saturating_sub(1);
    for (place, byte) in memory.chunks_exact_mut(SPELLED).zip(address) {
        place.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xF)], b':']);
    }
    &memory[..length]
}
