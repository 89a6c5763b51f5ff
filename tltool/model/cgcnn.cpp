// What a convolution of CGCNN does besides its maps of the sites, in few passes over memory, for one thread of the CPU.
//
// encoders/cgcnn.py says what is computed and gate.py has the plain form. Here nothing of size edges x features is
// written but the slopes that the backward pass needs. compiled.py fills the structures and calls ``prepare`` once
// for a batch, then ``forward`` and ``backward`` for each block. No library and no header of PyTorch is needed, so
// that this compiles in seconds. Sizes: n nodes, e edges, d different distances, m Gaussians, f features, a multiple
// of 16, and w = 2f gates and messages. Tables are row-major without gaps. Vectors are those that GCC and Clang know;
// the elementary functions are written out in them. Sums over many rows are kept in double.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <type_traits>
#include <vector>

using Index = std::int64_t;

#if defined(__AVX512F__)
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

// total[q] += sum over rows of term(row, q): in Real over a few rows at a time, then in double.
template <class Term> static void sum_rows(Index count, Index width, double *total, Term term) {
    std::vector<Real> part(width);
    for (Index begin = 0; begin < count; begin += 16) {
        const Index end = std::min(count, begin + 16);
        for (Index q = 0; q < width; q += lanes) {
            Lanes some{};
            for (Index r = begin; r < end; ++r) some += term(r, q);
            store(&part[q], some);
        }
        for (Index q = 0; q < width; ++q) total[q] += part[q];
    }
}

// A batch: its edges, and how much of all directed edges of the full graph they stand for.
struct Batch {
    Index n, d, m;
    const Index *first, *neighbour, *spot;  // (n+1), (e), (e): first edge of a node, sender and distance of an edge
    const Real *multiplicity, *count;       // (n), (e): sites that a node, neighbours that an edge stands for
    const Real *basis;                      // (d, m)
    Index *taps;                            // (d, 2): the entries of a row of the basis that count, from and to before
    Real *unit;                             // (n): share of each neighbour of a node
    Real *receiver, *sender, *distance;     // (n), (n), (d): shares of the edges into, from and at each
};

// A normalisation by weighted statistics, of w or f columns.
struct Norm {
    Index learns;  // whether statistics are those of the batch
    double eps, momentum;
    const Real *scale, *bias;
    Real *running_mean, *running_variance;
    Real *mean, *variance;  // what was normalised by
};

struct Block {
    Index f;
    const Real *sites;             // (n, f)
    const Real *a, *b;             // (n, w): maps of the sites, for edges into and from them
    const Real *weight;            // (w, m): map of the basis
    Real *c;                       // (d, w): the basis mapped; an edge's sum is a + b + c
    Real *received, *out;          // (n, f): the gated sums, the new sites
    Real *slopes, *update_slopes;  // (e, w), (n, f), or null
    Norm edges, nodes;
};

// Gradients by what Block holds under these names, ``upstream`` by ``out``; those by c and received are scratch.
struct Gradients {
    const Real *upstream;
    Real *sites, *a, *b, *weight, *c, *received;
    Real *a_bias;  // (w): by what the map to ``a`` adds to every row
    Real *edge_scale, *edge_bias, *node_scale, *node_bias;
};

static double edges_in_all(const Batch &g) {
    double total = 0;
    for (Index i = 0; i < g.n; ++i)
        for (Index e = g.first[i]; e < g.first[i + 1]; ++e) total += double(g.multiplicity[i]) * g.count[e];
    return total;
}

static double sites_in_all(const Batch &g) {
    return std::max(std::accumulate(g.multiplicity, g.multiplicity + g.n, 0.0), 1.0);
}

// Shares of edges, and the entries of the basis above ``negligible``: all but a few Gaussians are next to nothing.
extern "C" void prepare(const Batch &g, double negligible) {
    const double total = std::max(edges_in_all(g), 1.0);
    std::fill(g.receiver, g.receiver + g.n, Real(0));
    std::fill(g.sender, g.sender + g.n, Real(0));
    std::fill(g.distance, g.distance + g.d, Real(0));
    for (Index i = 0; i < g.n; ++i) {
        g.unit[i] = Real(g.multiplicity[i] / total);
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

static void map_forward(const Batch g, const Block block) {
    const Index w = 2 * block.f;
    std::vector<Real> turned(g.m * w);
    for (Index q = 0; q < w; ++q)
        for (Index k = 0; k < g.m; ++k) turned[k * w + q] = block.weight[q * g.m + k];
    for (Index r = 0; r < g.d; ++r) {
        for (Index q = 0; q < w; q += tile) {
            Lanes sum_0{}, sum_1{};
            for (Index k = g.taps[2 * r]; k < g.taps[2 * r + 1]; ++k) {
                const Real *from = &turned[k * w + q], height = g.basis[r * g.m + k];
                sum_0 += height * load(from), sum_1 += height * load(from + lanes);
            }
            store(block.c + r * w + q, sum_0), store(block.c + r * w + q + lanes, sum_1);
        }
    }
}

// Statistics of an edge's sum. Its mean is the sum of the means of its parts.
static void edge_statistics(const Batch g, const Block z) {
    const Index w = 2 * z.f;
    std::vector<double> mean(w, 0.0), variance(w, 0.0);
    if (z.edges.learns) {
        sum_rows(g.n, w, &mean[0], [=](Index r, Index q) { return g.receiver[r] * load(z.a + r * w + q); });
        sum_rows(g.n, w, &mean[0], [=](Index r, Index q) { return g.sender[r] * load(z.b + r * w + q); });
        sum_rows(g.d, w, &mean[0], [=](Index r, Index q) { return g.distance[r] * load(z.c + r * w + q); });
        const std::vector<Real> centre(mean.begin(), mean.end());
        const Real *middle = centre.data();
        sum_rows(g.n, w, &variance[0], [=](Index i, Index q) {
            const Lanes own = load(z.a + i * w + q) - load(middle + q);
            Lanes squares{};
            for (Index e = g.first[i]; e < g.first[i + 1]; ++e) {
                const Lanes b = load(z.b + g.neighbour[e] * w + q), c = load(z.c + g.spot[e] * w + q);
                const Lanes centred = own + b + c;
                squares += g.count[e] * (centred * centred);
            }
            return g.unit[i] * squares;
        });
    }
    settle(z.edges, w, mean.data(), variance.data(), edges_in_all(g));
}

// slopes: derivatives of an edge's message by its normalised gate and by its normalised message.
static void gate_forward(const Batch g, const Block z) {
    const Index f = z.f, w = 2 * f;
    const Norm norm = z.edges;
    const std::vector<Real> factor = factors(norm, w);
    for (Index i = 0; i < g.n; ++i) {
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

// The gradient by the map of the basis, from that by c before its normalisation, which is finished on the way.
static void map_backward(const Batch g, const Gradients d, const Through &by, Index w) {
    std::vector<Real> some(g.m * w);
    std::vector<double> all(g.m * w, 0.0);
    for (Index begin = 0; begin < g.d; begin += 128) {
        std::fill(some.begin(), some.end(), Real(0));
        for (Index r = begin; r < std::min(g.d, begin + 128); ++r) {
            for (Index q = 0; q < w; q += tile) {
                const Lanes from_0 = by.finished(d.c + r * w, g.distance[r], q);
                const Lanes from_1 = by.finished(d.c + r * w, g.distance[r], q + lanes);
                for (Index k = g.taps[2 * r]; k < g.taps[2 * r + 1]; ++k) {
                    Real *to = &some[k * w + q];
                    const Real height = g.basis[r * g.m + k];
                    store(to, load(to) + height * from_0);
                    store(to + lanes, load(to + lanes) + height * from_1);
                }
            }
        }
        for (Index k = 0; k < g.m * w; ++k) all[k] += some[k];
    }
    for (Index q = 0; q < w; ++q)
        for (Index k = 0; k < g.m; ++k) d.weight[q * g.m + k] = Real(all[k * w + q]);
}

static void gate_backward(const Batch g, const Block z, const Gradients d) {
    const Index f = z.f, w = 2 * f;
    const Real *mean = z.edges.mean;
    // What flows into the normalised sums, collected at their parts. Senders and distances come about in the order of
    // their rows, so a row is cleared shortly before it is added to, while it is near.
    Index clear_b = 0, clear_c = 0;
    const auto clear = [w](Real *rows, Index &done, Index end) {
        if (end > done) std::fill(rows + done * w, rows + end * w, Real(0)), done = end;
    };
    for (Index i = 0; i < g.n; ++i) {
        for (Index e = g.first[i]; e < g.first[i + 1]; ++e) {
            clear(d.b, clear_b, g.neighbour[e] + 1);
            clear(d.c, clear_c, g.spot[e] + 1);
        }
        for (Index q = 0; q < w; q += tile) {
            const Real *up = d.received + i * f + (q < f ? q : q - f);
            const Lanes up_0 = load(up), up_1 = load(up + lanes);
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
    clear(d.b, clear_b, g.n);
    clear(d.c, clear_c, g.d);
    // Its sum over edges, and the sum of it times the centred sum: a sum over parts, as the centred sum is one.
    std::vector<double> total(2 * w, 0.0);
    sum_rows(g.n, w, &total[0], [=](Index r, Index q) { return load(d.a + r * w + q); });
    sum_rows(g.n, w, &total[w], [=](Index r, Index q) {
        return load(d.a + r * w + q) * (load(z.a + r * w + q) - load(mean + q));
    });
    sum_rows(g.n, w, &total[w], [=](Index r, Index q) { return load(d.b + r * w + q) * load(z.b + r * w + q); });
    sum_rows(g.d, w, &total[w], [=](Index r, Index q) { return load(d.c + r * w + q) * load(z.c + r * w + q); });
    const Through by = through(z.edges, w, total.data(), d.edge_scale, d.edge_bias);
    // Statistics of the batch take away whatever is added to every row.
    for (Index q = 0; q < w; ++q) d.a_bias[q] = z.edges.learns ? Real(0) : by.factor[q] * d.edge_bias[q];
    // What goes through the variance differs from edge to edge and takes a second pass.
    for (Index i = 0; z.edges.learns && i < g.n; ++i) {
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
    for (Index i = 0; i < g.n; ++i) {
        for (Index q = 0; q < w; q += lanes) {
            store(d.a + i * w + q, by.finished(d.a + i * w, g.receiver[i], q));
            store(d.b + i * w + q, by.finished(d.b + i * w, g.sender[i], q));
        }
    }
    map_backward(g, d, by, w);
}

// out = softplus(sites + N(received)); update_slopes: its derivative.
static void update_forward(const Batch g, const Block z) {
    const Index f = z.f;
    const double total = sites_in_all(g);
    std::vector<double> mean(f, 0.0), variance(f, 0.0);
    if (z.nodes.learns) {
        const auto weight = [=](Index r) { return Real(g.multiplicity[r] / total); };
        sum_rows(g.n, f, &mean[0], [=](Index r, Index q) { return weight(r) * load(z.received + r * f + q); });
        const std::vector<Real> centre(mean.begin(), mean.end());
        const Real *middle = centre.data();
        sum_rows(g.n, f, &variance[0], [=](Index r, Index q) {
            const Lanes centred = load(z.received + r * f + q) - load(middle + q);
            return weight(r) * (centred * centred);
        });
    }
    settle(z.nodes, f, mean.data(), variance.data(), total);
    const std::vector<Real> factor = factors(z.nodes, f);
    for (Index i = 0; i < g.n; ++i) {
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

static void update_backward(const Batch g, const Block z, const Gradients d) {
    const Index f = z.f;
    const Real *mean = z.nodes.mean;
    for (Index k = 0; k < g.n * f; k += lanes) store(d.sites + k, load(d.upstream + k) * load(z.update_slopes + k));
    std::vector<double> sums(2 * f, 0.0);
    sum_rows(g.n, f, &sums[0], [=](Index r, Index q) { return load(d.sites + r * f + q); });
    sum_rows(g.n, f, &sums[f], [=](Index r, Index q) {
        return load(d.sites + r * f + q) * (load(z.received + r * f + q) - load(mean + q));
    });
    const Through by = through(z.nodes, f, sums.data(), d.node_scale, d.node_bias);
    const double total = sites_in_all(g);
    for (Index i = 0; i < g.n; ++i) {
        const Real share = Real(g.multiplicity[i] / total);
        for (Index q = 0; q < f; q += lanes) {
            const Lanes centred = load(z.received + i * f + q) - load(mean + q);
            const Lanes less = share * (load(&by.mean[q]) + centred * load(&by.variance[q]));
            store(d.received + i * f + q, load(&by.factor[q]) * (load(d.sites + i * f + q) - less));
        }
    }
}

extern "C" void forward(const Batch &batch, const Block &block) {
    map_forward(batch, block);
    edge_statistics(batch, block);
    gate_forward(batch, block);
    update_forward(batch, block);
}

// Gradients by a, b and sites are without what flows back through the maps of the sites.
extern "C" void backward(const Batch &batch, const Block &block, const Gradients &gradients) {
    update_backward(batch, block, gradients);
    gate_backward(batch, block, gradients);
}

// The same for several batches in a row, each with weights of its own.
extern "C" void prepare_all(Index count, const Batch *batches, double negligible) {
    for (Index k = 0; k < count; ++k) prepare(batches[k], negligible);
}

extern "C" void forward_all(Index count, const Batch *batches, const Block *blocks) {
    for (Index k = 0; k < count; ++k) forward(batches[k], blocks[k]);
}

extern "C" void backward_all(Index count, const Batch *batches, const Block *blocks, const Gradients *gradients) {
    for (Index k = 0; k < count; ++k) backward(batches[k], blocks[k], gradients[k]);
}
