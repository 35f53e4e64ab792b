//! A borrowed or boxed queue is a queue.

use crate::error::Error;
use crate::frame::RxFrame;
use crate::rx::FrameRx;
use crate::stats::{RxStats, TxStats};
use crate::tx::FrameTx;
use crate::wait::Waitable;

/// Runs the backend's own fused `poll`.
impl<R: FrameRx> FrameRx for &mut R {
    #[inline]
    fn acquire(&mut self, max: usize) -> Result<usize, Error> {
        (**self).acquire(max)
    }
    #[inline]
    fn len(&self) -> usize {
        (**self).len()
    }
    #[inline]
    fn frame(&self, i: usize) -> RxFrame<'_> {
        (**self).frame(i)
    }
    #[inline]
    fn release(&mut self) {
        (**self).release();
    }
    fn stats(&mut self) -> RxStats {
        (**self).stats()
    }
    fn waitable(&mut self) -> Option<&mut dyn Waitable> {
        (**self).waitable()
    }
    #[inline]
    fn poll<F: FnMut(RxFrame<'_>)>(&mut self, max: usize, f: F) -> Result<usize, Error> {
        (**self).poll(max, f)
    }
    fn poll_dyn(&mut self, max: usize, f: &mut dyn FnMut(RxFrame<'_>)) -> Result<usize, Error> {
        (**self).poll_dyn(max, f)
    }
}

/// For `Box<dyn FrameRx>` too, so `poll` goes through [`FrameRx::poll_dyn`].
impl<R: FrameRx + ?Sized> FrameRx for Box<R> {
    #[inline]
    fn acquire(&mut self, max: usize) -> Result<usize, Error> {
        (**self).acquire(max)
    }
    #[inline]
    fn len(&self) -> usize {
        (**self).len()
    }
    #[inline]
    fn frame(&self, i: usize) -> RxFrame<'_> {
        (**self).frame(i)
    }
    #[inline]
    fn release(&mut self) {
        (**self).release();
    }
    fn stats(&mut self) -> RxStats {
        (**self).stats()
    }
    fn waitable(&mut self) -> Option<&mut dyn Waitable> {
        (**self).waitable()
    }
    #[inline]
    fn poll<F: FnMut(RxFrame<'_>)>(&mut self, max: usize, mut f: F) -> Result<usize, Error> {
        (**self).poll_dyn(max, &mut f)
    }
    fn poll_dyn(&mut self, max: usize, f: &mut dyn FnMut(RxFrame<'_>)) -> Result<usize, Error> {
        (**self).poll_dyn(max, f)
    }
}

impl<T: FrameTx + ?Sized> FrameTx for &mut T {
    #[inline]
    fn max_len(&self) -> usize {
        (**self).max_len()
    }
    #[inline]
    fn room(&self) -> usize {
        (**self).room()
    }
    #[inline]
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        (**self).reserve(len)
    }
    #[inline]
    fn commit(&mut self, len: usize) {
        (**self).commit(len);
    }
    #[inline]
    fn kick(&mut self) -> Result<(), Error> {
        (**self).kick()
    }
    #[inline]
    fn reap(&mut self) -> usize {
        (**self).reap()
    }
    fn stats(&mut self) -> TxStats {
        (**self).stats()
    }
    #[inline]
    fn send(&mut self, frame: &[u8]) -> Result<bool, Error> {
        (**self).send(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loopback::{self, Options};

    #[test]
    fn a_boxed_queue_runs_its_own_loop() {
        let (mut tx, rx) = loopback::pair(&Options::default()).unwrap();
        let mut rx: Box<dyn FrameRx> = Box::new(rx);
        for i in 0..200_u8 {
            assert!(tx.send(&[i; 60]).unwrap());
        }
        tx.kick().unwrap();
        // More than a window holds, so no window was opened.
        let mut seen = Vec::new();
        assert_eq!(rx.poll(100, |frame| seen.push(frame.bytes[0])).unwrap(), 100);
        assert_eq!(rx.poll_dyn(200, &mut |frame| seen.push(frame.bytes[0])).unwrap(), 100);
        assert!(seen.into_iter().eq(0..200) && rx.is_empty());
    }
}
