/* Sleep and wake in both directions, for ever: does everybody who sleeps wake up?
 *
 * loom explores a few messages and weak memory; this explores any schedule of MESSAGES
 * messages, with liveness, on processors that only delay stores (x86-TSO): each side
 * has a store buffer that drains at any time, and a barrier waits until it is empty.
 * The steps S1 to S5 and W1 to W4 are those of ring/src/wake.rs.
 *
 * Variants that must fail, by -D: NO_WAKE_BARRIER, NO_SLEEP_BARRIER, NO_SECOND_LOOK,
 * LATE_ANNOUNCEMENT, EARLY_QUESTION, ONE_WAKE_UP_FOR_ALL. With MORTAL the producer may
 * stop before any step, and the consumer must still come to an end.
 */

#ifndef MESSAGES
#define MESSAGES 3
#endif
#ifndef CAPACITY
#define CAPACITY 1
#endif

/* The shared words. Each is written by one side. */
#define TAIL 0
#define HEAD 1
#define DATA 2  /* the consumer's waiting word: odd while it sleeps */
#define SPACE 3 /* the producer's */
byte word[4];

/* Store buffers, one a side. */
chan producer_stores = [2] of { byte, byte };
chan consumer_stores = [2] of { byte, byte };

/* Wake-ups that were sent and not read; several are one. */
bit to_consumer, to_producer;

byte received;
bit gone, finished;

inline store(buffer, at, value) { buffer ! at, value }
inline barrier(buffer) { empty(buffer) }

/* W2 to W4: the other side's waiting word, and what was sent for last. */
inline ask(buffer, waiting, socket, seen, sent) {
#ifndef NO_WAKE_BARRIER
    barrier(buffer);
#endif
    seen = word[waiting];
    if
    :: (seen % 2 == 1) && (seen != sent) ->
        sent = seen;
        socket = 1
    :: else
    fi
}

/* S1 and S2 */
inline announce(buffer, waiting, count) {
#ifdef ONE_WAKE_UP_FOR_ALL
    count = 1;
#else
    count = (count | 1) + 2 * (count & 1);
#endif
    store(buffer, waiting, count);
#ifndef NO_SLEEP_BARRIER
    barrier(buffer);
#endif
}

/* S5 */
inline awake(buffer, waiting, count) {
#ifdef ONE_WAKE_UP_FOR_ALL
    count = 0;
#else
    count = (count | 1) + 1;
#endif
    store(buffer, waiting, count)
}

#ifdef MORTAL
#define MAY_DIE if :: goto dead :: skip fi
#else
#define MAY_DIE skip
#endif

active proctype Producer() {
    byte sent_messages, seen, sent, count, head;
    do
    :: sent_messages == MESSAGES -> break
    :: else ->
        MAY_DIE;
        head = word[HEAD];
        if
        :: sent_messages - head < CAPACITY ->
#ifdef EARLY_QUESTION
            ask(producer_stores, DATA, to_consumer, seen, sent);
            sent_messages++;
            store(producer_stores, TAIL, sent_messages)
#else
            sent_messages++;
            store(producer_stores, TAIL, sent_messages); /* W1 */
            MAY_DIE;
            ask(producer_stores, DATA, to_consumer, seen, sent)
#endif
        :: else ->
#ifdef LATE_ANNOUNCEMENT
            head = word[HEAD];
            announce(producer_stores, SPACE, count);
#else
            announce(producer_stores, SPACE, count);
            head = word[HEAD]; /* S3 */
#endif
#ifdef NO_SECOND_LOOK
            atomic { to_producer == 1 -> to_producer = 0 };
#else
            if
            :: sent_messages - head < CAPACITY
            :: else -> atomic { to_producer == 1 -> to_producer = 0 } /* S4 */
            fi;
#endif
            awake(producer_stores, SPACE, count)
        fi
    od;
dead:
    /* The kernel closes the socket after all stores. */
    barrier(producer_stores);
    atomic { gone = 1; to_consumer = 1 }
}

active proctype Consumer() {
    byte seen, sent, count, tail;
    bit last;
    do
    :: received == MESSAGES -> break
    :: else ->
        last = gone; /* before the look: then nothing can come after it */
        tail = word[TAIL];
        if
        :: tail > received ->
#ifdef EARLY_QUESTION
            ask(consumer_stores, SPACE, to_producer, seen, sent);
            received++;
            store(consumer_stores, HEAD, received)
#else
            received++;
            store(consumer_stores, HEAD, received);
            ask(consumer_stores, SPACE, to_producer, seen, sent)
#endif
        :: else ->
            if
            :: last -> break
            :: else
            fi;
#ifdef LATE_ANNOUNCEMENT
            tail = word[TAIL];
            announce(consumer_stores, DATA, count);
#else
            announce(consumer_stores, DATA, count);
            tail = word[TAIL];
#endif
#ifdef NO_SECOND_LOOK
            atomic { to_consumer == 1 -> to_consumer = 0 };
#else
            if
            :: tail > received
            :: else -> atomic { to_consumer == 1 -> to_consumer = 0 }
            fi;
#endif
            awake(consumer_stores, DATA, count)
        fi
    od;
    assert(received == word[TAIL]);
    finished = 1
}

active proctype ProducerStores() {
    byte at, value;
end:
    do
    :: atomic { producer_stores ? at, value -> word[at] = value }
    od
}

active proctype ConsumerStores() {
    byte at, value;
end:
    do
    :: atomic { consumer_stores ? at, value -> word[at] = value }
    od
}

ltl live { <> finished }
