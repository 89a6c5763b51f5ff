// The graphs of some rows of a table, put side by side: what loading.py does by index arithmetic, in one pass.
//
// assembly.py fills the structures. ``measure`` says how large the batch becomes, ``fill`` writes it. Sizes as in
// fields.py.

#include <cstdint>

using Index = std::int64_t;

// A column of a table: ``kind`` is its place in the list of assembly.py.
struct Column { const void *data; Index kind; };

struct Table {
    Index n_crystals;
    const Index *first_node, *first_distance, *first_edge;
    Column number, multiplicity, neighbour, edge_multiplicity, distance_index, distance;
};

struct Batch {
    Index *number, *crystal, *first_node, *first_edge, *receiver, *neighbour, *distance_index;
    void *multiplicity, *edge_multiplicity, *distance;
};

template <class From, class To> static void copied(To *to, const void *from, Index begin, Index end, Index shift) {
    const From *rows = static_cast<const From *>(from);
    for (Index r = begin; r < end; ++r) *to++ = To(rows[r]) + To(shift);
}

template <class To> static void copy(To *to, Column from, Index begin, Index end, Index shift = 0) {
    switch (from.kind) {
        case 0: return copied<std::uint8_t>(to, from.data, begin, end, shift);
        case 1: return copied<std::int32_t>(to, from.data, begin, end, shift);
        case 2: return copied<std::int64_t>(to, from.data, begin, end, shift);
        case 3: return copied<float>(to, from.data, begin, end, shift);
        case 4: return copied<double>(to, from.data, begin, end, shift);
    }
}

// sizes: nodes, edges and distances of ``rows``. 0 if a row is not there.
extern "C" int measure(const Table &table, const Index *rows, Index n_rows, Index *sizes) {
    sizes[0] = sizes[1] = sizes[2] = 0;
    for (Index k = 0; k < n_rows; ++k) {
        const Index row = rows[k];
        if (row < 0 || row >= table.n_crystals) return 0;
        const Index node = table.first_node[row], end = table.first_node[row + 1];
        sizes[0] += end - node;
        sizes[1] += table.first_edge[end] - table.first_edge[node];
        sizes[2] += table.first_distance[row + 1] - table.first_distance[row];
    }
    return 1;
}

template <class Real> static void filled(const Table &table, const Index *rows, Index n_rows, const Batch &to) {
    Index n = 0, e = 0, d = 0;
    for (Index k = 0; k < n_rows; ++k) {
        const Index row = rows[k], node = table.first_node[row], end = table.first_node[row + 1];
        const Index edge = table.first_edge[node], end_edge = table.first_edge[end];
        const Index spot = table.first_distance[row], end_spot = table.first_distance[row + 1];
        to.first_node[k] = n;
        copy(to.number + n, table.number, node, end);
        copy(static_cast<Real *>(to.multiplicity) + n, table.multiplicity, node, end);
        copy(to.neighbour + e, table.neighbour, edge, end_edge, n);
        copy(static_cast<Real *>(to.edge_multiplicity) + e, table.edge_multiplicity, edge, end_edge);
        copy(to.distance_index + e, table.distance_index, edge, end_edge, d);
        copy(static_cast<Real *>(to.distance) + d, table.distance, spot, end_spot);
        for (Index i = node; i < end; ++i, ++n) {
            to.crystal[n] = k;
            to.first_edge[n] = e;
            for (Index left = table.first_edge[i + 1] - table.first_edge[i]; left > 0; --left) to.receiver[e++] = n;
        }
        d += end_spot - spot;
    }
    to.first_node[n_rows] = n;
    to.first_edge[n] = e;
}

extern "C" void fill(const Table &table, const Index *rows, Index n_rows, const Batch &to, int single) {
    if (single) filled<float>(table, rows, n_rows, to);
    else filled<double>(table, rows, n_rows, to);
}
