// Threads that help with one phase after another of a kernel, on a machine whose cores others may want.
//
// The caller works too and waits only for what a helper has begun: with no core to spare it does everything itself. A
// helper looks out for work for some microseconds after the last, then sleeps until it is woken. If one was sent away by
// the system in the middle of its work, which costs the caller milliseconds, the next phases do without them all: few
// the first time, up to 2000 where it happens again and again.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

class Crew {
  public:
    using Work = std::function<void(std::int64_t)>;
    using Clock = std::chrono::steady_clock;

    // Do work(0), work(1), ... work(count - 1), in any order, on up to ``threads`` threads.
    template <class Each> void run(std::int64_t threads, std::int64_t count, Each each) {
        std::unique_lock<std::mutex> only(caller, std::defer_lock);
        if (threads < 2 || count < 2 || !only.try_lock() || --alone >= 0) {
            for (std::int64_t k = 0; k < count; ++k) each(k);
            return;
        }
        for (; size + 1 < threads; ++size) std::thread([this] { help(); }).detach();
        const Work work = std::ref(each);
        job.store(&work, std::memory_order_relaxed);
        done.store(0, std::memory_order_relaxed);
        phase += std::uint64_t(1) << 32;
        left.store(phase | std::uint64_t(count));
        if (sleeping.load()) {
            { std::lock_guard<std::mutex> lock(bed); }
            woken.notify_all();
        }
        // A helper that has begun last needs as long as a piece takes, and not much longer.
        auto patience = Clock::duration(std::chrono::microseconds(100));
        for (auto begin = Clock::now(); one();) {
            const auto end = Clock::now();
            patience = std::max(patience, 3 * (end - begin)), begin = end;
        }
        if (finished(count, [] { pause(); }, patience)) {
            if (++good == 500) leave = 30;
            return;
        }
        alone = leave, leave = std::min<std::int64_t>(4 * leave, 2000), good = 0;
        while (!finished(count, [] { std::this_thread::yield(); }, std::chrono::hours(1))) {}
    }

  private:
    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }

    template <class Rest, class Time> bool finished(std::int64_t count, Rest rest, Time patience) {
        const auto begin = Clock::now();
        while (done.load(std::memory_order_acquire) < count) {
            for (int turn = 0; turn < 16; ++turn) rest();
            if (Clock::now() - begin > patience) return false;
        }
        return true;
    }

    // Do one piece of work, if any is left. That it was there when it is claimed says that ``job`` is still its own.
    bool one() {
        std::uint64_t seen = left.load(std::memory_order_acquire);
        do {
            if (!std::uint32_t(seen)) return false;
        } while (!left.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel));
        (*job.load(std::memory_order_relaxed))(std::uint32_t(seen) - 1);
        done.fetch_add(1, std::memory_order_release);
        return true;
    }

    void help() {
        for (;;) {
            for (int idle = 0; idle < 1000; ++idle, pause())
                while (one()) idle = 0;
            std::unique_lock<std::mutex> lock(bed);
            ++sleeping;
            woken.wait(lock, [this] { return std::uint32_t(left.load()) != 0; });
            --sleeping;
        }
    }

    std::mutex caller, bed;
    std::condition_variable woken;
    std::int64_t size = 0;               // helpers
    std::int64_t alone = 0, good = 0;    // phases that still do without them; that went well since
    std::int64_t leave = 30;             // phases without them after the next that does not go well
    std::uint64_t phase = 0;
    std::atomic<const Work *> job{nullptr};
    std::atomic<std::int64_t> done{0};
    std::atomic<std::uint64_t> left{0};  // number of the phase, and below it how many pieces nobody has claimed
    std::atomic<int> sleeping{0};
};

// Never taken down: its threads may sleep in it when the process ends.
inline Crew &crew() {
    static Crew *const all = new Crew;
    return *all;
}
