//! Owns the codec of all calls: prost's, which counts the parts of a request before anything is made of them.
//!
//! A message has as many bytes as `limits.message_bytes_max` lets it, but its parts take far more in memory: two bytes on the wire
//! are an empty write, and that is more than a hundred bytes. So a request has at most [`MESSAGE_PARTS_MAX`] parts as well.

use super::count::{self, Shape};
use super::fault::to_status;
use crate::fault::Fault;
use prost::Message;
use std::marker::PhantomData;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

pub use super::count::MESSAGE_PARTS_MAX;

/// The codec of every service of Zeolite, on both sides.
pub struct CountingCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for CountingCodec<T, U> {
    fn default() -> Self {
        CountingCodec(PhantomData)
    }
}

impl<T, U> Codec for CountingCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = CountingDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> CountingDecoder<U> {
        CountingDecoder { prost: ProstCodec::<T, U>::default().decoder(), shape: count::shape_of::<U>() }
    }
}

/// Decodes a message whose parts are few enough.
pub struct CountingDecoder<U> {
    prost: ProstDecoder<U>,
    shape: Option<&'static Shape>,
}

impl<U: Message + Default> Decoder for CountingDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        if let Some(shape) = self.shape {
            // A message lies in one piece: the frame was read whole.
            count::check_parts(bytes::Buf::chunk(buffer), shape).map_err(|fault| to_status(&fault))?;
        }
        self.prost.decode(buffer).map_err(|error| match self.shape {
            // A request: what is wrong with it is told as everything is.
            Some(_) => to_status(&Fault::invalid(format!("the request cannot be read: {}", error.message()))),
            None => error,
        })
    }
}
