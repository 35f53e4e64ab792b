//! A record is gone when the next one is read.
use linerate::file::{FileError, Reader};

fn late(reader: &mut Reader) -> Result<bool, FileError> {
    let one = reader.next()?;
    let two = reader.next()?; //~ E0499
    Ok(one.is_some() && two.is_some())
}

fn main() {
    let _ = late;
}
