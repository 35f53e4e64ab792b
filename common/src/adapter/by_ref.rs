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
}

/// For `Box<dyn FrameRx>`: `poll` goes through `acquire`, `frame` and `release`.
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
