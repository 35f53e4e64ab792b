//! Filters of the VI, or of the set it is in.

use linerate_common::SetupError;
use linerate_efvi_sys::{ef_filter_cookie, ef_filter_spec};

use super::Session;
use crate::error::checked;

impl Session {
    /// Installs a filter, on the set if the VI is in one.
    pub(crate) fn add_filter(
        &mut self,
        spec: &ef_filter_spec,
    ) -> Result<ef_filter_cookie, SetupError> {
        let mut cookie = ef_filter_cookie::default();
        // SAFETY: a spec that the library's setters made, and a live VI or set.
        unsafe {
            match &self.set {
                Some(set) => {
                    let (set, dh) = set.raw();
                    let rc = (self.lib.vi_set_filter_add)(set, dh, spec, &mut cookie);
                    checked("ef_vi_set_filter_add", rc)?;
                }
                None => {
                    let rc = (self.lib.vi_filter_add)(self.vi(), self.dh, spec, &mut cookie);
                    checked("ef_vi_filter_add", rc)?;
                }
            }
        }
        Ok(cookie)
    }

    /// Removes a filter.
    pub(crate) fn remove_filter(&mut self, mut cookie: ef_filter_cookie) -> Result<(), SetupError> {
        // SAFETY: a cookie of this VI or set, which is alive.
        unsafe {
            match &self.set {
                Some(set) => {
                    let (set, dh) = set.raw();
                    let rc = (self.lib.vi_set_filter_del)(set, dh, &mut cookie);
                    checked("ef_vi_set_filter_del", rc)?;
                }
                None => {
                    let rc = (self.lib.vi_filter_del)(self.vi(), self.dh, &mut cookie);
                    checked("ef_vi_filter_del", rc)?;
                }
            }
        }
        Ok(())
    }
}
