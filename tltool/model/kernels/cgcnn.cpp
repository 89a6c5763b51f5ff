// The convolutions of CGCNN, all blocks in one call each way, in few passes over memory, for threads of the CPU.
//
// encoders/cgcnn.py says what is computed and gate.py has the plain form. Here nothing of size edges x features is
// written but the slopes that the backward pass needs. compiled.py fills the structures and calls ``prepare`` once
// for a batch, then ``forward`` and ``backward``. No library and no header of PyTorch is needed, so that this compiles
// in seconds. Sizes: n nodes, e edges, d different distances, m Gaussians, f features, a multiple of 16, and w = 2f
// gates and messages. Tables are row-major without gaps. Vectors are those that GCC and Clang know; the elementary
// functions are written out in them. Sums over many rows are kept in double.
//
// A batch is cut into chunks that no edge joins, so that threads need not know of each other within a phase. What is
// summed over chunks is summed in their order: results do not depend on how many threads there are.

#include "threads.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <type_traits>
#include <vector>

using Index = std::int64_t;

// Of a vector. Named from outside only to test how rows are cut where the processor has other vectors than here.
#if defined(BYTES)
#elif defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif

#ifndef REAL
#define REAL float
#endif
using Real = REAL;
constexpr bool single = sizeof(Real) == 4;
using Word = std::conditional_t<single, std::uint32_t, std::uint64_t>;
typedef Real Lanes __attribute__((vector_size(BYTES)));
typedef Word Bits __attribute__((vector_size(BYTES)));
typedef Real Unaligned __attribute__((vector_size(BYTES), aligned(sizeof(Real)), may_alias));
constexpr Index lanes = BYTES / sizeof(Real);
constexpr Index tile = 2 * lanes;  // how much of a row is kept in registers over a node's edges
constexpr Index chunk_edges = 160;  // of the fewest that a chunk has

// Of the format: exponent and fraction; a number that leaves no room for a fraction where it is added; the lowest
// power of two that is a normal number. The series end below the last digit.
constexpr int exponent_bias = single ? 127 : 1023, fraction_bits = single ? 23 : 52;
constexpr Real integer = single ? 0x1.8p23 : 0x1.8p52, lowest = single ? -126 : -1022;
constexpr int exp_terms = single ? 6 : 13, log_terms = single ? 6 : 16;

inline Lanes load(const Real *from) { return *(const Unaligned *)from; }
inline void store(Real *to, Lanes x) { *(Unaligned *)to = x; }

// ln(2)^k / k!
constexpr double power_coefficient(int k) { return k ? power_coefficient(k - 1) * 0.6931471805599453094 / k : 1.0; }

// 2^x from the k-th term of its series on, over x^k.
template <int k, int last> inline Lanes power_series(Lanes x) {
    constexpr Real coefficient = Real(power_coefficient(k));
    if constexpr (k == last) return coefficient - Lanes{};
    else return coefficient + x * power_series<k + 1, last>(x);
}

// 1/(2k+1) + x/(2k+3) + ..., which is artanh(s)/s at x = s^2 for k = 0.
template <int k, int last> inline Lanes artanh_series(Lanes x) {
    constexpr Real coefficient = Real(1.0 / (2 * k + 1));
    if constexpr (k == last) return coefficient - Lanes{};
    else return coefficient + x * artanh_series<k + 1, last>(x);
}

// exp(-|x|) as a power of two: its whole part goes into the exponent, the rest into the series. NaN stays NaN.
inline Lanes exp_down(Lanes x) {
    constexpr Real log2_e = 1.4426950408889634;
    Lanes power = (x < Real(0) ? x : -x) * log2_e;
    power = power < lowest ? lowest - Lanes{} : power;
    const Lanes shifted = power + integer, rest = power - (shifted - integer);
    const auto whole = ((Bits)shifted + Word(exponent_bias)) << Word(fraction_bits);
    return (Lanes)whole * power_series<0, exp_terms>(rest);
}

// log(1 + t) = 2 artanh(t / (2 + t)), given the quotient.
inline Lanes log_up(Lanes quotient) {
    return Real(2) * quotient * artanh_series<0, log_terms>(quotient * quotient);
}

// sigmoid(x) softplus(y) and its derivatives by x and y; one division serves both functions.
struct Gated { Lanes value, by_x, by_y; };
inline Gated gated(Lanes x, Lanes y) {
    const Lanes s = exp_down(x), t = exp_down(y);
    const Lanes s1 = Real(1) + s, t1 = Real(1) + t, t2 = Real(2) + t, t12 = t1 * t2;
    const Lanes all = Real(1) / (s1 * t12), of_t = all * s1;
    const Lanes upper = all * t12, lower = s * upper, sigmoid_x = x < Real(0) ? lower : upper;
    const Lanes up = t2 * of_t, sigmoid_y = y < Real(0) ? t * up : up;
    const Lanes softplus_y = (y < Real(0) ? Lanes{} : y) + log_up(t * t1 * of_t);
    const Lanes value = sigmoid_x * softplus_y;
    return {value, value * (x < Real(0) ? upper : lower), sigmoid_x * sigmoid_y};
}

#include "rows.h"

// A batch: its edges, and how much of all directed edges of the full graph they stand for.
struct Batch {
    Index n, d, m;
    const Index *first, *neighbour, *spot;  // (n+1), (e), (e): first edge of a node, sender and distance of an edge
    const Real *multiplicity, *count;       // (n), (e): sites that a node, neighbours that an edge stands for
    const Real *basis;                      // (d, m)
    Index *taps;                            // (d, 2): the entries of a row of the basis that count, from and to before
    Index *cuts;                            // how many chunks, then the first node and distance of each, and the ends
    double *totals;                         // (2): directed edges, sites
    Real *unit;                             // (n): share of each neighbour of a node
    Real *receiver, *sender, *distance;     // (n), (n), (d): shares of the edges into, from and at each
};

struct Chunk { Index node, end_node, spot, end_spot; };
static Chunk chunk(const Batch &g, Index k) {
    return {g.cuts[1 + 2 * k], g.cuts[3 + 2 * k], g.cuts[2 + 2 * k], g.cuts[4 + 2 * k]};
}

// A normalisation by weighted statistics, of w or f columns.
struct Norm {
    Index learns;  // whether statistics are those of the batch
    double eps, momentum;
    const Real *scale, *bias;
    Real *running_mean, *running_variance;
    Real *mean, *variance;  // what was normalised by
};

struct Block {
    const Real *receiver, *receiver_bias, *neighbour, *map;  // (w, f), (w), (w, f), (w, m): maps of sites and basis
    const Real *sites;                                       // (n, f)
    Real *a, *b, *c;               // (n, w), (n, w), (d, w): sites and basis mapped; an edge's sum is a + b + c
    Real *received, *out;          // (n, f): the gated sums, the new sites
    Real *slopes, *update_slopes;  // (e, w), (n, f), or null
    Norm edges, nodes;
};

// Gradients by what Block holds under these names; ``upstream`` that by ``out`` or null.
struct Gradients {
    const Real *upstream;
    Real *receiver, *receiver_bias, *neighbour, *map;
    Real *edge_scale, *edge_bias, *node_scale, *node_bias;
};

// Scratch of the backward pass: gradients by what Block holds under these names.
struct Flow { Real *sites, *received, *a, *b, *c; };  // (n, f), (n, f), (n, w), (n, w), (d, w)

// Shares of edges, chunks, and the entries of the basis above ``negligible``: all but a few Gaussians are nothing.
extern "C" void prepare(const Batch &g, double negligible) {
    double total = 0, sites = 0;
    for (Index i = 0; i < g.n; ++i) {
        sites += g.multiplicity[i];
        for (Index e = g.first[i]; e < g.first[i + 1]; ++e) total += double(g.multiplicity[i]) * g.count[e];
    }
    g.totals[0] = total, g.totals[1] = std::max(sites, 1.0);
    std::fill(g.receiver, g.receiver + g.n, Real(0));
    std::fill(g.sender, g.sender + g.n, Real(0));
    std::fill(g.distance, g.distance + g.d, Real(0));
    for (Index i = 0; i < g.n; ++i) {
        g.unit[i] = Real(g.multiplicity[i] / std::max(total, 1.0));
        for (Index e = g.first[i]; e < g.first[i + 1]; ++e) {
            const Real share = g.unit[i] * g.count[e];
            g.receiver[i] += share;
            g.sender[g.neighbour[e]] += share;
            g.distance[g.spot[e]] += share;
        }
    }
    for (Index r = 0; r < g.d; ++r) {
        const auto counts = [&](Index k) { return !(std::abs(g.basis[r * g.m + k]) <= Real(negligible)); };
        Index begin = 0, end = g.m;
        while (end > 0 && !counts(end - 1)) --end;
        while (begin < end && !counts(begin)) ++begin;
        g.taps[2 * r] = begin, g.taps[2 * r + 1] = end;
    }
    // A cut may be where no edge behind it names a node or a distance before it, nor the other way round.
    std::vector<Index> low_node(g.n + 1, g.n), low_spot(g.n + 1, g.d);
    for (Index i = g.n; i-- > 0;) {
        low_node[i] = low_node[i + 1], low_spot[i] = low_spot[i + 1];
        for (Index e = g.first[i]; e < g.first[i + 1]; ++e)
            low_node[i] = std::min(low_node[i], g.neighbour[e]), low_spot[i] = std::min(low_spot[i], g.spot[e]);
    }
    Index n_chunks = 0, high_node = 0, high_spot = 0, begun = 0;
    g.cuts[1] = g.cuts[2] = 0;
    for (Index i = 0; i < g.n; ++i) {
        if (g.first[i] - begun >= chunk_edges && high_node <= i && low_node[i] >= i && low_spot[i] >= high_spot) {
            ++n_chunks, begun = g.first[i];
            g.cuts[1 + 2 * n_chunks] = i, g.cuts[2 + 2 * n_chunks] = high_spot;
        }
        for (Index e = g.first[i]; e < g.first[i + 1]; ++e)
            high_node = std::max(high_node, g.neighbour[e] + 1), high_spot = std::max(high_spot, g.spot[e] + 1);
    }
    g.cuts[0] = ++n_chunks;
    g.cuts[1 + 2 * n_chunks] = g.n, g.cuts[2 + 2 * n_chunks] = g.d;
}

// total[q] += sum over rows of term(row, q): in Real over a few rows at a time, then in double.
template <class Term> static void sum_rows(Index begin, Index end, Index width, double *total, Term term) {
    for (; begin < end; begin += 16) {
        for (Index q = 0; q < width; q += lanes) {
            Lanes some{};
            for (Index r = begin; r < std::min(end, begin + 16); ++r) some += term(r, q);
            for (Index k = 0; k < lanes; ++k) total[q + k] += some[k];
        }
    }
}

// Sums of each chunk, in a row of their own, and their sum in the order of the chunks.
struct Sums {
    Index width;
    std::vector<double> rows;
    Sums(const Batch &g, Index width) : width(width), rows((g.cuts[0] + 1) * width) {}
    double *of(Index k) { return &rows[(k + 1) * width]; }
    // Once all rows are there, and only once.
    const double *all() {
        for (Index k = width; k < Index(rows.size()); k += width)
            for (Index q = 0; q < width; ++q) rows[q] += rows[k + q];
        return rows.data();
    }
    std::vector<Real> all_rounded() { const double *from = all(); return {from, from + width}; }
};

// to[r] = (adds ? to[r] : start) + sum over k of by(r, k) from[k], by(r, k) = by[r * row + k * step]: R rows, V vectors.
template <Index R, Index V>
static void product(Real *to, Index width, const Real *by, Index row, Index step, const Real *from, Index depth,
                    const Real *start, bool adds) {
    Lanes sum[R][V];
    for (Index r = 0; r < R; ++r)
        for (Index v = 0; v < V; ++v)
            sum[r][v] = adds ? load(to + r * width + v * lanes) : start ? load(start + v * lanes) : Lanes{};
    for (Index k = 0; k < depth; ++k) {
        Lanes row_k[V];
        for (Index v = 0; v < V; ++v) row_k[v] = load(from + k * width + v * lanes);
        for (Index r = 0; r < R; ++r) {
            const Real height = by[r * row + k * step];
            for (Index v = 0; v < V; ++v) sum[r][v] += height * row_k[v];
        }
    }
    for (Index r = 0; r < R; ++r)
        for (Index v = 0; v < V; ++v) store(to + r * width + v * lanes, sum[r][v]);
}

template <Index R>
static void products(Index begin, Index end, Real *to, Index width, const Real *by, Index row, Index step,
                     const Real *from, Index depth, const Real *start, bool adds) {
    for (; begin + R <= end; begin += R) {
        Index q = 0;
        for (; q + tile <= width; q += tile)
            product<R, 2>(to + begin * width + q, width, by + begin * row, row, step, from + q, depth,
                          start ? start + q : start, adds);
        for (; q < width; q += lanes)
            product<R, 1>(to + begin * width + q, width, by + begin * row, row, step, from + q, depth,
                          start ? start + q : start, adds);
    }
    if constexpr (R > 1) products<R / 2>(begin, end, to, width, by, row, step, from, depth, start, adds);
}

// (end - begin, width) = rows of ``by`` times ``from`` (depth, width), some of the depth at a time to stay near.
static void multiply(Index begin, Index end, Real *to, Index width, const Real *by, Index row, Index step,
                     const Real *from, Index depth, const Real *start, bool adds) {
    constexpr Index rows = BYTES == 64 ? 8 : 4, near = 256;
    for (Index k = 0; k == 0 || k < depth; k += near)
        products<rows>(begin, end, to, width, by + k * step, row, step, from + k * width, std::min(depth - k, near),
                       start, adds || k);
}

// Settle by which statistics to normalise; those of the batch also move the running ones, as BatchNorm1d does.
static void settle(const Norm &norm, Index width, const double *mean, const double *variance, double total) {
    const double spread = total / std::max(total - 1, 1.0);
    for (Index q = 0; q < width; ++q) {
        norm.mean[q] = norm.learns ? Real(mean[q]) : norm.running_mean[q];
        norm.variance[q] = norm.learns ? Real(variance[q]) : norm.running_variance[q];
        if (!norm.learns) continue;
        norm.running_mean[q] += Real(norm.momentum * (mean[q] - norm.running_mean[q]));
        norm.running_variance[q] += Real(norm.momentum * (variance[q] * spread - norm.running_variance[q]));
    }
}

// What a normalisation passes on: factor times the gradient, less what goes through its mean and its variance.
struct Through {
    std::vector<Real> factor, mean, variance;

    // What goes through the mean is the same for all edges, and comes last.
    Lanes finished(const Real *row, Real share, Index q) const {
        return load(&factor[q]) * (load(row + q) - share * load(&mean[q]));
    }
};

// ``total`` (2 width): sums over rows of the gradient, and of the gradient times the centred row.
static Through through(const Norm &norm, Index width, const double *total, Real *d_scale, Real *d_bias) {
    Through by{std::vector<Real>(width), std::vector<Real>(width), std::vector<Real>(width)};
    for (Index q = 0; q < width; ++q) {
        const double inverse = 1 / std::sqrt(norm.variance[q] + norm.eps);
        d_bias[q] = Real(total[q]);
        d_scale[q] = Real(total[width + q] * inverse);
        by.factor[q] = Real(norm.scale[q] * inverse);
        by.mean[q] = norm.learns ? d_bias[q] : Real(0);
        by.variance[q] = norm.learns ? Real(d_scale[q] * inverse) : Real(0);
    }
    return by;
}

static std::vector<Real> factors(const Norm &norm, Index width) {
    std::vector<Real> factor(width);
    for (Index q = 0; q < width; ++q) factor[q] = Real(norm.scale[q] / std::sqrt(norm.variance[q] + norm.eps));
    return factor;
}

static std::vector<Real> turned(const Real *from, Index rows, Index width) {
    std::vector<Real> to(rows * width);
    for (Index k = 0; k < width; ++k)
        for (Index q = 0; q < rows; ++q) to[k * rows + q] = from[q * width + k];
    return to;
}

// The maps of a block, turned: (f, w), (f, w), (m, w).
struct Turned { std::vector<Real> receiver, neighbour, map; };

static void maps_forward(const Batch &g, Index f, const Block &z, const Turned &by, Chunk at) {
    const Index w = 2 * f;
    multiply(at.node, at.end_node, z.a, w, z.sites, f, 1, &by.receiver[0], f, z.receiver_bias, false);
    multiply(at.node, at.end_node, z.b, w, z.sites, f, 1, &by.neighbour[0], f, nullptr, false);
    for (Index r = at.spot; r < at.end_spot; ++r) {
        for (Index q = 0; q < w; q += tile) {
            Lanes sum_0{}, sum_1{};
            for (Index k = g.taps[2 * r]; k < g.taps[2 * r + 1]; ++k) {
                const Real *from = &by.map[k * w + q], height = g.basis[r * g.m + k];
                sum_0 += height * load(from), sum_1 += height * load(from + lanes);
            }
            store(z.c + r * w + q, sum_0), store(z.c + r * w + q + lanes, sum_1);
        }
    }
}

// The mean of an edge's sum is the sum of the means of its parts.
static void edge_mean(const Batch &g, Index w, const Block &z, Chunk at, double *mean) {
    sum_rows(at.node, at.end_node, w, mean, [&](Index r, Index q) {
        return g.receiver[r] * load(z.a + r * w + q) + g.sender[r] * load(z.b + r * w + q);
    });
    sum_rows(at.spot, at.end_spot, w, mean, [&](Index r, Index q) { return g.distance[r] * load(z.c + r * w + q); });
}

static void edge_variance(const Batch &g, Index w, const Block &z, Chunk at, const Real *mean, double *variance) {
    sum_rows(at.node, at.end_node, w, variance, [&](Index i, Index q) {
        const Lanes own = load(z.a + i * w + q) - load(mean + q);
        Lanes squares{};
        for (Index e = g.first[i]; e < g.first[i + 1]; ++e) {
            const Lanes b = load(z.b + g.neighbour[e] * w + q), c = load(z.c + g.spot[e] * w + q);
            const Lanes centred = own + b + c;
            squares += g.count[e] * (centred * centred);
        }
        return g.unit[i] * squares;
    });
}

// slopes: derivatives of an edge's message by its normalised gate and by its normalised message.
static void gate_forward(const Batch g, Index f, const Block z, Chunk at, const std::vector<Real> &factor) {
    const Index w = 2 * f;
    const Norm norm = z.edges;
    for (Index i = at.node; i < at.end_node; ++i) {
        for (Index q = 0; q < f; q += lanes) {
            const Real *a = z.a + i * w + q;
            const Lanes own_x = load(a) - load(norm.mean + q), own_y = load(a + f) - load(norm.mean + f + q);
            const Lanes factor_x = load(&factor[q]), factor_y = load(&factor[f + q]);
            const Lanes bias_x = load(norm.bias + q), bias_y = load(norm.bias + f + q);
            Lanes sum{};
            for (Index e = g.first[i]; e < g.first[i + 1]; ++e) {
                const Real *b = z.b + g.neighbour[e] * w + q, *c = z.c + g.spot[e] * w + q;
                const auto message = gated((own_x + load(b) + load(c)) * factor_x + bias_x,
                                           (own_y + load(b + f) + load(c + f)) * factor_y + bias_y);
                sum += g.count[e] * message.value;
                if (z.slopes) {
                    store(z.slopes + e * w + q, message.by_x);
                    store(z.slopes + e * w + f + q, message.by_y);
                }
            }
            store(z.received + i * f + q, sum);
        }
    }
}

// out = softplus(sites + N(received)); update_slopes: its derivative.
static void update_forward(Index f, const Block &z, Chunk at, const std::vector<Real> &factor) {
    for (Index i = at.node; i < at.end_node; ++i) {
        for (Index q = 0; q < f; q += lanes) {
            const Lanes centred = load(z.received + i * f + q) - load(z.nodes.mean + q);
            const Lanes x = load(z.sites + i * f + q) + (centred * load(&factor[q]) + load(z.nodes.bias + q));
            const Lanes t = exp_down(x), t1 = Real(1) + t, t2 = Real(2) + t, both = Real(1) / (t1 * t2);
            const Lanes upper = t2 * both;
            store(z.out + i * f + q, (x < Real(0) ? Lanes{} : x) + log_up(t * t1 * both));
            if (z.update_slopes) store(z.update_slopes + i * f + q, x < Real(0) ? t * upper : upper);
        }
    }
}

extern "C" void forward(const Batch &g, Index f, const Block *blocks, Index n_blocks, Index threads) {
    const Index w = 2 * f;
    const auto each = [&](auto work) {
        crew().run(threads, g.cuts[0], [&](Index k) { work(chunk(g, k), k); });
    };
    std::vector<Turned> maps(n_blocks);
    crew().run(threads, n_blocks, [&](Index k) {
        const Block &z = blocks[k];
        maps[k] = {turned(z.receiver, w, f), turned(z.neighbour, w, f), turned(z.map, w, g.m)};
    });
    for (Index at_block = 0; at_block < n_blocks; ++at_block) {
        const Block &z = blocks[at_block];
        Sums mean(g, w), variance(g, w), node_mean(g, f), node_variance(g, f);
        each([&](Chunk at, Index k) {
            maps_forward(g, f, z, maps[at_block], at);
            if (z.edges.learns) edge_mean(g, w, z, at, mean.of(k));
        });
        if (z.edges.learns) {
            const std::vector<Real> centre = mean.all_rounded();
            each([&](Chunk at, Index k) { edge_variance(g, w, z, at, &centre[0], variance.of(k)); });
        }
        settle(z.edges, w, &mean.rows[0], variance.all(), g.totals[0]);
        const std::vector<Real> factor = factors(z.edges, w);
        const auto share = [&](Index r) { return Real(g.multiplicity[r] / g.totals[1]); };
        each([&](Chunk at, Index k) {
            gate_forward(g, f, z, at, factor);
            sum_rows(at.node, at.end_node, f, node_mean.of(k),
                     [&](Index r, Index q) { return share(r) * load(z.received + r * f + q); });
        });
        if (z.nodes.learns) {
            const std::vector<Real> centre = node_mean.all_rounded();
            each([&](Chunk at, Index k) {
                sum_rows(at.node, at.end_node, f, node_variance.of(k), [&](Index r, Index q) {
                    const Lanes centred = load(z.received + r * f + q) - load(&centre[q]);
                    return share(r) * (centred * centred);
                });
            });
        }
        settle(z.nodes, f, &node_mean.rows[0], node_variance.all(), g.totals[1]);
        const std::vector<Real> node_factor = factors(z.nodes, f);
        each([&](Chunk at, Index) { update_forward(f, z, at, node_factor); });
    }
}

static void update_backward(const Batch &g, Index f, const Block &z, Flow d, Chunk at, const Through &by) {
    const Real *mean = z.nodes.mean;
    for (Index i = at.node; i < at.end_node; ++i) {
        const Real share = Real(g.multiplicity[i] / g.totals[1]);
        for (Index q = 0; q < f; q += lanes) {
            const Lanes centred = load(z.received + i * f + q) - load(mean + q);
            const Lanes less = share * (load(&by.mean[q]) + centred * load(&by.variance[q]));
            store(d.received + i * f + q, load(&by.factor[q]) * (load(d.sites + i * f + q) - less));
        }
    }
}

// What flows into the normalised sums, collected at their parts. ``total`` (2 w): its sum over edges, and the sum of
// it times the centred sum, which is a sum over parts, as the centred sum is one.
static void gate_backward(const Batch g, Index f, const Block z, Flow d, Chunk at, double *total) {
    const Index w = 2 * f;
    const Real *mean = z.edges.mean;
    std::fill(d.b + at.node * w, d.b + at.end_node * w, Real(0));
    std::fill(d.c + at.spot * w, d.c + at.end_spot * w, Real(0));
    for (Index i = at.node; i < at.end_node; ++i) {
        for (Index q = 0; q < w; q += tile) {
            // Gates and messages gain from the same row; where f is half a tile off, a tile has one vector of each.
            const auto up = [&](Index at) { return load(d.received + i * f + (at < f ? at : at - f)); };
            const Lanes up_0 = up(q), up_1 = up(q + lanes);
            Lanes all_0{}, all_1{};
            for (Index e = g.first[i]; e < g.first[i + 1]; ++e) {
                const Real *slope = z.slopes + e * w + q, count = g.count[e];
                Real *b = d.b + g.neighbour[e] * w + q, *c = d.c + g.spot[e] * w + q;
                const Lanes flow_0 = count * up_0 * load(slope), flow_1 = count * up_1 * load(slope + lanes);
                all_0 += flow_0, all_1 += flow_1;
                store(b, load(b) + flow_0), store(b + lanes, load(b + lanes) + flow_1);
                store(c, load(c) + flow_0), store(c + lanes, load(c + lanes) + flow_1);
            }
            store(d.a + i * w + q, all_0), store(d.a + i * w + q + lanes, all_1);
        }
    }
    sum_rows(at.node, at.end_node, w, total, [&](Index r, Index q) { return load(d.a + r * w + q); });
    sum_rows(at.node, at.end_node, w, total + w, [&](Index r, Index q) {
        const Index here = r * w + q;
        return load(d.a + here) * (load(z.a + here) - load(mean + q)) + load(d.b + here) * load(z.b + here);
    });
    sum_rows(at.spot, at.end_spot, w, total + w,
             [&](Index r, Index q) { return load(d.c + r * w + q) * load(z.c + r * w + q); });
}

// What flows through the variance differs from edge to edge and takes a second pass.
static void variance_backward(const Batch g, Index w, const Block z, Flow d, Chunk at, const Through &by) {
    const Real *mean = z.edges.mean;
    for (Index i = at.node; i < at.end_node; ++i) {
        for (Index q = 0; q < w; q += tile) {
            const Real *a = z.a + i * w + q;
            const Lanes own_0 = load(a) - load(mean + q), own_1 = load(a + lanes) - load(mean + q + lanes);
            const Lanes by_0 = g.unit[i] * load(&by.variance[q]), by_1 = g.unit[i] * load(&by.variance[q + lanes]);
            Real *to = d.a + i * w + q;
            Lanes all_0 = load(to), all_1 = load(to + lanes);
            for (Index e = g.first[i]; e < g.first[i + 1]; ++e) {
                const Index from = g.neighbour[e] * w + q, spot = g.spot[e] * w + q;
                const Real *b = z.b + from, *c = z.c + spot, count = g.count[e];
                Real *at_b = d.b + from, *at_c = d.c + spot;
                const Lanes flow_0 = count * by_0 * (own_0 + load(b) + load(c));
                const Lanes flow_1 = count * by_1 * (own_1 + load(b + lanes) + load(c + lanes));
                all_0 -= flow_0, all_1 -= flow_1;
                store(at_b, load(at_b) - flow_0), store(at_b + lanes, load(at_b + lanes) - flow_1);
                store(at_c, load(at_c) - flow_0), store(at_c + lanes, load(at_c + lanes) - flow_1);
            }
            store(to, all_0), store(to + lanes, all_1);
        }
    }
}

static void maps_backward(const Batch &g, Index f, const Block &z, Flow d, Chunk at, const Through &by) {
    const Index w = 2 * f;
    const auto finish = [&](Real *rows, const Real *share, Index begin, Index end) {
        for (Index r = begin; r < end; ++r)
            for (Index q = 0; q < w; q += lanes) store(rows + r * w + q, by.finished(rows + r * w, share[r], q));
    };
    finish(d.a, g.receiver, at.node, at.end_node);
    finish(d.b, g.sender, at.node, at.end_node);
    finish(d.c, g.distance, at.spot, at.end_spot);
    multiply(at.node, at.end_node, d.sites, f, d.a, w, 1, z.receiver, w, nullptr, true);
    multiply(at.node, at.end_node, d.sites, f, d.b, w, 1, z.neighbour, w, nullptr, true);
}

// The gradient by ``tile`` rows of the map of the basis.
static void map_gradient(const Batch &g, Index w, const Real *d_c, Real *d_map, Index q) {
    std::vector<Real> some(g.m * tile);
    std::vector<double> all(g.m * tile, 0.0);
    for (Index begin = 0; begin < g.d; begin += 128) {
        std::fill(some.begin(), some.end(), Real(0));
        for (Index r = begin; r < std::min(g.d, begin + 128); ++r) {
            const Lanes from_0 = load(d_c + r * w + q), from_1 = load(d_c + r * w + q + lanes);
            for (Index k = g.taps[2 * r]; k < g.taps[2 * r + 1]; ++k) {
                Real *to = &some[k * tile];
                const Real height = g.basis[r * g.m + k];
                store(to, load(to) + height * from_0), store(to + lanes, load(to + lanes) + height * from_1);
            }
        }
        for (Index k = 0; k < g.m * tile; ++k) all[k] += some[k];
    }
    for (Index p = 0; p < tile; ++p)
        for (Index k = 0; k < g.m; ++k) d_map[(q + p) * g.m + k] = Real(all[k * tile + p]);
}

// Gradients by ``tile`` rows of the three maps, of which there are w / tile strips each.
static void weight_gradients(const Batch &g, Index f, const Block &z, Flow d, const Gradients &to, Index strip) {
    const Index w = 2 * f, n = w / tile, q = strip % n * tile;
    if (strip / n == 0) return map_gradient(g, w, d.c, to.map, q);
    const bool first = strip / n == 1;
    multiply(q, q + tile, first ? to.receiver : to.neighbour, f, first ? d.a : d.b, 1, w, z.sites, g.n, nullptr, false);
}

// Gradients of the blocks from the last down to ``lowest``; that by the sites of the lowest is in ``d.sites``.
extern "C" void backward(const Batch &g, Index f, const Block *blocks, Index n_blocks, Index threads, Index lowest,
                         const Gradients *gradients, const Flow &d) {
    const Index w = 2 * f, n_chunks = g.cuts[0], n_strips = 3 * (w / tile);
    const auto each = [&](auto work) {
        crew().run(threads, n_chunks, [&](Index k) { work(chunk(g, k), k); });
    };
    for (Index at_block = n_blocks; at_block-- > lowest;) {
        const Block &z = blocks[at_block];
        const Gradients &to = gradients[at_block];
        const bool top = at_block + 1 == n_blocks;
        Sums node_sums(g, 2 * f), sums(g, 2 * w);
        // The weights of the block above have waited until here: together there is more to share.
        crew().run(threads, n_chunks + (top ? 0 : n_strips), [&](Index k) {
            if (k >= n_chunks) return weight_gradients(g, f, blocks[at_block + 1], d, gradients[at_block + 1], k - n_chunks);
            const Chunk at = chunk(g, k);
            for (Index r = at.node * f; r < at.end_node * f; r += lanes) {
                const Lanes up = to.upstream ? load(to.upstream + r) : Lanes{};
                store(d.sites + r, (top ? up : up + load(d.sites + r)) * load(z.update_slopes + r));
            }
            double *total = node_sums.of(k);
            sum_rows(at.node, at.end_node, f, total, [&](Index r, Index q) { return load(d.sites + r * f + q); });
            sum_rows(at.node, at.end_node, f, total + f, [&](Index r, Index q) {
                return load(d.sites + r * f + q) * (load(z.received + r * f + q) - load(z.nodes.mean + q));
            });
        });
        const Through by_nodes = through(z.nodes, f, node_sums.all(), to.node_scale, to.node_bias);
        each([&](Chunk at, Index k) {
            update_backward(g, f, z, d, at, by_nodes);
            gate_backward(g, f, z, d, at, sums.of(k));
        });
        const Through by = through(z.edges, w, sums.all(), to.edge_scale, to.edge_bias);
        // Statistics of the batch take away whatever is added to every row.
        for (Index q = 0; q < w; ++q) to.receiver_bias[q] = z.edges.learns ? Real(0) : by.factor[q] * to.edge_bias[q];
        each([&](Chunk at, Index) {
            if (z.edges.learns) variance_backward(g, w, z, d, at, by);
            maps_backward(g, f, z, d, at, by);
        });
    }
    crew().run(threads, n_strips, [&](Index k) { weight_gradients(g, f, blocks[lowest], d, gradients[lowest], k); });
}

// to = softplus(x) - log 2, and in place of x (count) its derivative: soft_layers.py.
extern "C" void soften(Index count, Real *x, Real *to) {
    constexpr Real log_2 = 0.6931471805599453;
    for (Index k = 0; k < count; k += lanes) {
        const Index some = std::min(lanes, count - k);
        Lanes given{};
        if (some == lanes) given = load(x + k);
        else std::copy_n(x + k, some, (Real *)&given);
        const Lanes t = exp_down(given), t1 = Real(1) + t, t2 = Real(2) + t, both = Real(1) / (t1 * t2);
        const Lanes upper = t2 * both, slope = given < Real(0) ? t * upper : upper;
        const Lanes value = (given < Real(0) ? Lanes{} : given) + log_up(t * t1 * both) - log_2;
        if (some == lanes) store(x + k, slope), store(to + k, value);
        else std::copy_n((const Real *)&slope, some, x + k), std::copy_n((const Real *)&value, some, to + k);
    }
}
