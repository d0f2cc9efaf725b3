//! A communicator of ranks that are threads of one process, for tests.

use std::sync::{Arc, Barrier, Mutex};

use tch::{Kind, Tensor};

use super::{Comm, Place};

/// A communicator between threads.
#[derive(Clone)]
pub struct Threads {
    place: Place,
    /// The bytes of each rank in the current exchange.
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
    barrier: Arc<Barrier>,
}

/// Calls `work` on each of `ranks` ranks, and returns the results in the order of ranks.
pub fn on_ranks<T: Send>(ranks: usize, work: impl Fn(&Threads) -> T + Sync) -> Vec<T> {
    let (sent, barrier) = (Arc::new(Mutex::new(vec![vec![]; ranks])), Arc::new(Barrier::new(ranks)));
    let rank = |rank| Threads { place: Place { rank, ranks }, sent: Arc::clone(&sent), barrier: Arc::clone(&barrier) };
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..ranks).map(rank).map(|rank| scope.spawn(move || work(&rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

impl Comm for Threads {
    fn place(&self) -> Place {
        self.place
    }

    fn sum(&self, tensor: &mut Tensor) {
        let values = Vec::<f64>::try_from(tensor.to_kind(Kind::Double).view([-1])).unwrap();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut sum = vec![0.0; values.len()];
        for bytes in self.gather(&bytes) {
            let values = bytes.chunks(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap()));
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        tensor.copy_(&Tensor::from_slice(&sum).view(&tensor.size()[..]));
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.gather(&bytes).remove(0)
    }

    fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.sent.lock().unwrap()[self.place.rank] = bytes.to_vec();
        self.barrier.wait();
        let all = self.sent.lock().unwrap().clone();
        self.barrier.wait();
        all
    }

    fn largest(&self, number: u64) -> u64 {
        let numbers = self.gather(&number.to_le_bytes());
        numbers.into_iter().map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).max().unwrap()
    }
}
