//! Every ring behind the same two traits: a push and a pop that do not wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use iceoryx2::node::Node;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory as PubSub;
use ipc_channel::ipc::{IpcReceiver, IpcSender};
use memenpsf_benches::mapped::Mapped;
use memenpsf_ring::memory::Split;
use memenpsf_ring::{index, packed};
use ringbuf::traits::{Consumer as _, Producer as _, Split as _};
use ringbuf::{HeapCons, HeapProd, HeapRb};
use ringfire::{CleanupMode, FlowControl, RingConsumer, RingProducer, RingProducerBuilder};
use shmem_ipc::sharedring;

use crate::Failure;

/// A side that pushes.
pub trait Push: Send + 'static {
    /// Makes ready to run in this process.
    fn settle(&self) {}

    fn push(&mut self, value: u64) -> bool;
}

/// A side that pops.
pub trait Pop: Send + 'static {
    /// Makes ready to run in this process.
    fn settle(&self) {}

    fn pop(&mut self) -> Option<u64>;
}

macro_rules! sides {
    ($($producer:ty, $push:expr; $consumer:ty, $pop:expr;)*) => {$(
        impl Push for $producer {
            #[inline]
            fn push(&mut self, value: u64) -> bool {
                let push: fn(&mut $producer, u64) -> bool = $push;
                push(self, value)
            }
        }

        impl Pop for $consumer {
            #[inline]
            fn pop(&mut self) -> Option<u64> {
                let pop: fn(&mut $consumer) -> Option<u64> = $pop;
                pop(self)
            }
        }
    )*};
}

sides! {
    rtrb::Producer<u64>, |ring, value| ring.push(value).is_ok();
    rtrb::Consumer<u64>, |ring| ring.pop().ok();

    HeapProd<u64>, |ring, value| ring.try_push(value).is_ok();
    HeapCons<u64>, |ring| ring.try_pop();

    yring::Producer<u64>, |ring, value| ring.push_and_flush(value).is_ok();
    yring::Consumer<u64>, |ring| ring.prefetch_and_pop();

    RingProducer<u64>, |ring, value| ring.try_push(&value).is_ok();
    RingConsumer<u64>, |ring| ring.try_recv();

    index::Producer<u64>, |ring, value| ring.push(value).is_ok();
    index::Consumer<u64>, |ring| ring.pop().ok();

    packed::Producer<u64>, |ring, value| ring.push(value).is_ok();
    packed::Consumer<u64>, |ring| ring.pop().ok();

    index::Producer<u64, Split<u64>>, |ring, value| ring.push(value).is_ok();
    index::Consumer<u64, Split<u64>>, |ring| ring.pop().ok();

    packed::Producer<u64, Split<u64>>, |ring, value| ring.push(value).is_ok();
    packed::Consumer<u64, Split<u64>>, |ring| ring.pop().ok();

    shaq::spsc::Producer<u64>, |ring, value| {
        // It sees only at a `sync` what was vacated.
        let written = ring.try_write(value).or_else(|value| {
            ring.sync();
            ring.try_write(value)
        });
        ring.commit();
        written.is_ok()
    };
    shaq::spsc::Consumer<u64>, |ring| {
        let mut value = ring.try_read().copied();
        if value.is_none() {
            ring.sync();
            value = ring.try_read().copied();
        }
        ring.finalize();
        value
    };

    // How many subscribers got it: nobody where the buffer was full.
    IceoryxSender, |port, value| port.publisher.send_copy(value).is_ok_and(|got| got == 1);
    IceoryxReceiver, |port| Some(*port.subscriber.receive().ok()??);

    // The kernel decides when it is full; it then waits.
    IpcSender<u64>, |channel, value| channel.send(value).is_ok();
    IpcReceiver<u64>, |channel| channel.try_recv().ok();
}

impl<H: Push> Push for Mapped<H> {
    fn settle(&self) {
        // Without it there are page faults in what is measured, and nothing is wrong.
        let _ = self.populate();
    }

    #[inline]
    fn push(&mut self, value: u64) -> bool {
        self.get().push(value)
    }
}

impl<H: Pop> Pop for Mapped<H> {
    fn settle(&self) {
        let _ = self.populate();
    }

    #[inline]
    fn pop(&mut self) -> Option<u64> {
        self.get().pop()
    }
}

/// A side of a queue that both sides own.
pub struct Queue(Arc<ArrayQueue<u64>>);

impl Push for Queue {
    #[inline]
    fn push(&mut self, value: u64) -> bool {
        self.0.push(value).is_ok()
    }
}

impl Pop for Queue {
    #[inline]
    fn pop(&mut self) -> Option<u64> {
        self.0.pop()
    }
}

/// The sending side of shmem-ipc, without its wake-ups.
pub struct ShmemSender(sharedring::Sender<u64>);

/// The receiving side.
pub struct ShmemReceiver(sharedring::Receiver<u64>);

// SAFETY: a side is pointers into its own mapping, and descriptors: it is bound to
// no thread. Only one thread at a time has it.
unsafe impl Send for ShmemSender {}
// SAFETY: as above.
unsafe impl Send for ShmemReceiver {}

impl Push for ShmemSender {
    #[inline]
    fn push(&mut self, value: u64) -> bool {
        let mut pushed = false;
        let sent = self.0.sender_mut().send(|place, room| {
            if room == 0 {
                return 0;
            }
            pushed = true;
            // SAFETY: there is room for `room` values.
            unsafe { place.write(value) };
            1
        });
        sent.is_ok() && pushed
    }
}

impl Pop for ShmemReceiver {
    #[inline]
    fn pop(&mut self) -> Option<u64> {
        let mut value = None;
        let received = self.0.receiver_mut().recv(|place, count| {
            if count == 0 {
                return 0;
            }
            // SAFETY: there are `count` values.
            value = Some(unsafe { place.read() });
            1
        });
        received.ok()?;
        value
    }
}

type Topic = PubSub<ipc::Service, u64, ()>;

/// The publishing side of iceoryx2, with a node of its own.
pub struct IceoryxSender {
    publisher: Publisher<ipc::Service, u64, ()>,
    _topic: Topic,
    _node: Node<ipc::Service>,
}

/// The subscribing side, with a node of its own.
pub struct IceoryxReceiver {
    subscriber: Subscriber<ipc::Service, u64, ()>,
    _topic: Topic,
    _node: Node<ipc::Service>,
}

// SAFETY: a side counts references to its own node and service without atomics, and
// nobody else has any of these: all of them change threads together.
unsafe impl Send for IceoryxSender {}
// SAFETY: as above.
unsafe impl Send for IceoryxReceiver {}

pub fn ringbuf(capacity: usize) -> (HeapProd<u64>, HeapCons<u64>) {
    HeapRb::new(capacity).split()
}

pub fn array_queue(capacity: usize) -> (Queue, Queue) {
    let queue = Arc::new(ArrayQueue::new(capacity));
    (Queue(Arc::clone(&queue)), Queue(queue))
}

/// Over two mappings of one memfd, as between two processes.
pub fn shmem_ipc(capacity: usize) -> Result<(ShmemSender, ShmemReceiver), Failure> {
    let sender = sharedring::Sender::new(capacity)?;
    let receiver = sharedring::Receiver::open(
        capacity,
        sender.memfd().as_file().try_clone()?,
        sender.empty_signal().try_clone()?,
        sender.full_signal().try_clone()?,
    )?;
    Ok((ShmemSender(sender), ShmemReceiver(receiver)))
}

/// In shared memory without a name.
pub fn shaq(capacity: usize) -> Result<ShaqRing, Failure> {
    shaq::spsc::pair(capacity).map_err(|error| format!("{error:?}").into())
}

/// Both sides of a ring of shaq.
pub type ShaqRing = (shaq::spsc::Producer<u64>, shaq::spsc::Consumer<u64>);

/// A topic that loses nothing: a full buffer refuses. Its library leaves empty folders
/// and a word of its own behind, in `/tmp/iceoryx2` and `/dev/shm`.
pub fn iceoryx(capacity: usize) -> Result<(IceoryxSender, IceoryxReceiver), Failure> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    set_log_level(LogLevel::Fatal);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("memenpsf-peers/{}/{number}", std::process::id());
    let side = || -> Result<_, Failure> {
        let node = NodeBuilder::new().create::<ipc::Service>()?;
        let topic = node
            .service_builder(&name.as_str().try_into()?)
            .publish_subscribe::<u64>()
            .max_publishers(1)
            .max_subscribers(1)
            .history_size(0)
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size(capacity)
            .subscriber_max_borrowed_samples(1)
            .open_or_create()?;
        Ok((node, topic))
    };
    let (node, topic) = side()?;
    let subscriber = topic.subscriber_builder().create()?;
    let receiver = IceoryxReceiver {
        subscriber,
        _topic: topic,
        _node: node,
    };
    let (node, topic) = side()?;
    let publisher = topic
        .publisher_builder()
        .max_loaned_samples(1)
        .backpressure_strategy(BackpressureStrategy::DiscardData)
        .create()?;
    let sender = IceoryxSender {
        publisher,
        _topic: topic,
        _node: node,
    };
    Ok((sender, receiver))
}

/// Over two mappings of a file, which goes with the producer; lossless.
pub fn ringfire(capacity: usize) -> Result<(RingProducer<u64>, RingConsumer<u64>), Failure> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = format!("/dev/shm/memenpsf-peers-{}-{number}", std::process::id());
    let producer = RingProducerBuilder::new(capacity as u64)
        .cleanup_mode(CleanupMode::UnlinkOnDrop)
        .flow_control(FlowControl::LosslessBackpressure)
        .build(&path)?;
    let consumer = RingConsumer::<u64>::builder().attach(&path)?;
    Ok((producer, consumer))
}
