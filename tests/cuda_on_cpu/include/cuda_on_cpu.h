// CUDA C++ on the CPU: what the sources in minigrad/kernels/cuda use of it, for testing their indexing and numerics.
//
// Every thread of a block is a fiber of its own stack. A fiber runs until it waits for others: at __syncthreads(), at a
// warp's shuffle or vote, or at a cluster's barrier. When nobody can go on, the launch fails and says who waits where.
// The blocks of a cluster run at once, one system thread each; other blocks run one after the other. Shared memory is
// thread-local storage, so each running block has its own, and an address in it is an offset, as on the device.
#pragma once

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <type_traits>
#include <ucontext.h>
#include <utility>

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };

namespace cuda_on_cpu {

constexpr int WARP = 32, MOST_THREADS = 1024, MASKS = 8, STACK = 128 << 10, SHARED = 227 << 10, MOST_BLOCKS = 16;

// ------------------------------------------------------------------ fibers

struct Fiber {
    jmp_buf at;
    uint3 thread;
    int number;
    bool started, done;
    const unsigned *watched;  // waits until this number is another one than
    unsigned seen;
    const char *where;
    unsigned cluster_seen;
};

// A warp's threads that execute one instruction together. Two rooms, for a fiber may enter the next meeting while
// others have still to read what was said in this one.
struct Meeting {
    unsigned mask, arrived, turn;
    uint64_t said[2][WARP];
};

struct Cluster;

struct Block {
    uint3 index;
    int threads, running, rank;
    unsigned arrived, turn, cluster_arrived, cluster_turn;
    Cluster *cluster;
    const struct Launch *launch;
    Fiber *current;
    jmp_buf scheduler;
    char *stacks;
    char *shared;
    char failure[300];
    Fiber fibers[MOST_THREADS];
    Meeting meetings[MOST_THREADS / WARP][MASKS];
};

struct Argument { const void *value; int kind, size, is_pointer; };

struct Launch {
    unsigned grid[3], block[3], shared, reversed;
    int count;
    const Argument *arguments;
    const void *kernel;
    void (*call)(const Launch *);
};

// What stands between `void` and a kernel's name.
struct Attributes {
    unsigned blocks = 1, most_threads = MOST_THREADS;
    constexpr Attributes cluster(unsigned x, unsigned y, unsigned z) const { return {x * y * z, most_threads}; }
    constexpr Attributes bounds(unsigned threads, unsigned = 0) const { return {blocks, threads}; }
};

static thread_local Block *block;
alignas(128) static thread_local unsigned char dynamic_shared[SHARED];

[[noreturn]] inline void fail(const char *text) {
    if (!block->failure[0]) snprintf(block->failure, sizeof block->failure, "%s", text);
    longjmp(block->scheduler, 1);
}

__attribute__((noinline)) inline void wait_while(const unsigned &number, unsigned seen, const char *where) {
    Fiber *self = block->current;
    if (number != seen) return;
    self->watched = &number, self->seen = seen, self->where = where;
    if (!_setjmp(self->at)) longjmp(block->scheduler, 1);
}

inline void fiber_main() {
    for (;;) {  // a fiber serves one thread after another, for starting one takes long
        Fiber *self = block->current;
        block->launch->call(block->launch);
        self->done = true;
        block->running--;
        if (!_setjmp(self->at)) longjmp(block->scheduler, 1);
    }
}

__attribute__((noinline)) inline void resume(Fiber *fiber) {
    block->current = fiber;
    if (_setjmp(block->scheduler)) return;
    if (fiber->started) longjmp(fiber->at, 1);
    fiber->started = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = block->stacks + (size_t)STACK * (fiber - block->fibers);
    context.uc_stack.ss_size = STACK;
    context.uc_link = nullptr;
    makecontext(&context, fiber_main, 0);
    setcontext(&context);
}

// ------------------------------------------------------------------ blocks and clusters

struct Cluster {
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
    unsigned size = 1, arrived = 0, turn = 0;
    bool left = false;  // a block has ended or failed: who waits for it waits in vain
    char *shared[MOST_BLOCKS] = {};

    bool meet() {
        pthread_mutex_lock(&lock);
        unsigned seen = turn;
        if (++arrived == size) {
            arrived = 0, turn++;
            pthread_cond_broadcast(&changed);
        }
        while (turn == seen && !left) pthread_cond_wait(&changed, &lock);
        bool met = turn != seen;
        pthread_mutex_unlock(&lock);
        return met;
    }
    void leave() {
        pthread_mutex_lock(&lock);
        left = true;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
};

inline void report_waiting() {
    for (int k = 0; k < block->threads; k++) {
        const Fiber &f = block->fibers[k];
        if (f.done) continue;
        snprintf(block->failure, sizeof block->failure,
                 "block (%u, %u, %u): thread %d waits at %s for threads that never get there; %d of %d have ended",
                 block->index.x, block->index.y, block->index.z, k, f.where, block->threads - block->running,
                 block->threads);
        return;
    }
}

inline void run_block(unsigned number) {
    const Launch &l = *block->launch;
    const unsigned *n = l.block;
    block->index = {number % l.grid[0], number / l.grid[0] % l.grid[1], number / l.grid[0] / l.grid[1]};
    block->threads = block->running = (int)(n[0] * n[1] * n[2]);
    block->arrived = block->cluster_arrived = 0;
    memset(dynamic_shared, 0xFF, l.shared);  // NaN, until somebody writes
    memset(block->meetings, 0, sizeof block->meetings);
    for (int k = 0; k < block->threads; k++) {
        Fiber &f = block->fibers[k];
        f.thread = {k % n[0], k / n[0] % n[1], k / n[0] / n[1]};
        f.number = k, f.done = false, f.watched = nullptr;
    }
    while (block->running) {
        bool moved = false;
        for (int i = 0; i < block->threads; i++) {
            Fiber &f = block->fibers[l.reversed ? block->threads - 1 - i : i];
            if (f.done || (f.watched && *f.watched == f.seen)) continue;
            f.watched = nullptr;
            resume(&f);
            if (block->failure[0]) return;
            moved = true;
        }
        if (moved) continue;
        if (block->cluster_arrived == (unsigned)block->threads && block->cluster->meet())
            block->cluster_arrived = 0, block->cluster_turn++;
        else
            return report_waiting();
    }
    if (block->cluster_arrived) block->cluster->meet();
}

struct Task { const Launch *launch; Cluster *cluster; unsigned first, last; int rank; char failure[300]; };

// Runs the blocks from `first` to `last`.
inline void *run_task(void *given) {
    Task &task = *(Task *)given;
    block = new Block();
    block->launch = task.launch, block->cluster = task.cluster, block->rank = task.rank;
    block->shared = task.cluster->shared[task.rank] = (char *)dynamic_shared;
    block->stacks = (char *)mmap(nullptr, (size_t)STACK * MOST_THREADS, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    bool all_here = task.cluster->size == 1 || task.cluster->meet();  // everybody's shared memory is known
    for (unsigned b = task.first; all_here && b < task.last && !block->failure[0]; b++) run_block(b);
    task.cluster->leave();
    memcpy(task.failure, block->failure, sizeof task.failure);
    munmap(block->stacks, (size_t)STACK * MOST_THREADS);
    delete block;
    return nullptr;
}

inline void run_cluster(const Launch *launch, unsigned first, unsigned blocks, char *failure) {
    Cluster cluster;
    cluster.size = blocks;
    Task tasks[MOST_BLOCKS];
    pthread_t threads[MOST_BLOCKS];
    for (unsigned r = 0; r < blocks; r++) {
        tasks[r] = {launch, &cluster, first + r, first + r + 1, (int)r, {}};
        pthread_create(threads + r, nullptr, run_task, tasks + r);
    }
    for (unsigned r = 0; r < blocks; r++) pthread_join(threads[r], nullptr);
    for (unsigned r = 0; r < blocks && !failure[0]; r++) strcpy(failure, tasks[r].failure);
}

inline const char *run_grid(const Launch *launch, Attributes attributes) {
    static char failure[300];
    failure[0] = 0;
    const unsigned blocks = launch->grid[0] * launch->grid[1] * launch->grid[2];
    const unsigned threads = launch->block[0] * launch->block[1] * launch->block[2];
    if (threads > attributes.most_threads || launch->shared > SHARED || blocks % attributes.blocks) {
        snprintf(failure, sizeof failure, "%u blocks of %u threads and %u bytes of shared memory, where %u threads, %d "
                 "bytes and multiples of %u blocks are allowed", blocks, threads, launch->shared,
                 attributes.most_threads, SHARED, attributes.blocks);
    } else if (attributes.blocks == 1) {
        Cluster alone;
        Task task{launch, &alone, 0, blocks, 0, {}};
        run_task(&task);
        strcpy(failure, task.failure);
    } else {
        for (unsigned b = 0; b < blocks && !failure[0]; b += attributes.blocks)
            run_cluster(launch, b, attributes.blocks, failure);
    }
    return failure;
}

// ------------------------------------------------------------------ launches, whose arguments are checked

template <class T> constexpr int kind_of();
template <class T> const char *mismatch(const Argument &a) {
    if constexpr (std::is_pointer_v<T>) {
        using E = std::remove_cv_t<std::remove_pointer_t<T>>;
        if (!a.is_pointer) return a.kind == 'i' && a.size == 8 && *(const int64_t *)a.value == 0 ? nullptr : "a pointer";
        if constexpr (std::is_void_v<E>) return nullptr;
        else return !kind_of<E>() || (a.kind == kind_of<E>() && a.size == (int)sizeof(E)) ? nullptr : "other elements";
    } else {
        return !a.is_pointer && a.kind == kind_of<T>() && a.size == (int)sizeof(T) ? nullptr : "another type";
    }
}

template <class... A, size_t... I>
void call_kernel(const Launch *l, void (*kernel)(A...), std::index_sequence<I...>) {
    kernel(*(A *)l->arguments[I].value...);
}

template <class... A> const char *launch(Launch *l, void (*kernel)(A...), Attributes attributes) {
    static char problem[100];
    if (l->count != sizeof...(A)) {
        snprintf(problem, sizeof problem, "%d arguments for %d parameters", l->count, (int)sizeof...(A));
        return problem;
    }
    int at = 0;
    const char *wanted = nullptr;
    ((wanted || (wanted = mismatch<A>(l->arguments[at]), at++)), ...);
    if (wanted) {
        snprintf(problem, sizeof problem, "argument %d: %s is wanted", at, wanted);
        return problem;
    }
    l->kernel = (const void *)kernel;
    l->call = [](const Launch *l) {
        call_kernel(l, (void (*)(A...))l->kernel, std::index_sequence_for<A...>());
    };
    return run_grid(l, attributes);
}

// ------------------------------------------------------------------ warps

inline int lane() { return block->current->number % WARP; }

// What every lane of the mask says, read once all have said it.
inline const uint64_t *exchange(unsigned mask, uint64_t word, const char *where) {
    const int warp = block->current->number / WARP, here = block->threads - warp * WARP;
    if (here < WARP) mask &= (1u << here) - 1;
    if (!(mask >> lane() & 1)) fail("a thread that its own mask leaves out");
    Meeting *m = block->meetings[warp];
    while (m->mask != mask && m->mask)
        if (++m == block->meetings[warp] + MASKS) fail("more masks in one warp than are provided for");
    m->mask = mask;
    uint64_t *said = m->said[m->turn & 1];
    said[lane()] = word;
    m->arrived |= 1u << lane();
    if (m->arrived == mask) m->arrived = 0, m->turn++;
    else wait_while(m->turn, m->turn, where);
    return said;
}

template <class T> T shuffle(unsigned mask, T x, int from, const char *where) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    uint64_t word = 0;
    memcpy(&word, &x, sizeof(T));
    const uint64_t *said = exchange(mask, word, where);
    if (from < 0 || from >= WARP) from = lane();
    memcpy(&x, &said[from], sizeof(T));
    return x;
}

inline unsigned ballot(unsigned mask, bool x) {
    const uint64_t *said = exchange(mask, x, "a vote");
    unsigned all = 0;
    for (int k = 0; k < WARP; k++)
        if (mask >> k & 1 && said[k] == 1) all |= 1u << k;
    return all;
}

// ------------------------------------------------------------------ shared memory and clusters

inline uint32_t shared_address(const void *p) { return (uint32_t)((const char *)p - block->shared) & 0xFFFFFF; }
inline uint32_t mapped(uint32_t address, unsigned rank) { return (address & 0xFFFFFF) | (rank + 1) << 24; }
inline void *shared_pointer(uint32_t address) {
    char *base = address >> 24 ? block->cluster->shared[(address >> 24) - 1] : block->shared;
    return base + ((int32_t)(address << 8) >> 8);  // offsets are of both signs
}

inline void cluster_arrive() {
    block->current->cluster_seen = block->cluster_turn;
    block->cluster_arrived++;
}
inline void cluster_wait() {
    wait_while(block->cluster_turn, block->current->cluster_seen, "a cluster's barrier");
}

template <class T> T *remote(T *local, unsigned rank) { return (T *)shared_pointer(mapped(shared_address(local), rank)); }

}  // namespace cuda_on_cpu

#include "language.h"
