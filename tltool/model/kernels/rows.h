// Rows of a table chosen, or added up, by an index, and the expansion of distances. Included by cgcnn.cpp.

// to (n, f): weight[i], or 1 without weights, times row index[i] of from.
extern "C" void spread(Index n, Index f, const Index *index, const Real *weight, const Real *from, Real *to) {
    for (Index i = 0; i < n; ++i) {
        const Real factor = weight ? weight[i] : Real(1);
        for (Index q = 0; q < f; ++q) to[i * f + q] = factor * from[index[i] * f + q];
    }
}

// to: row i of from (n, f), times weight[i], is added to row index[i].
extern "C" void collect(Index n, Index f, const Index *index, const Real *weight, const Real *from, Real *to) {
    for (Index i = 0; i < n; ++i) {
        const Real factor = weight ? weight[i] : Real(1);
        for (Index q = 0; q < f; ++q) to[index[i] * f + q] += factor * from[i * f + q];
    }
}

// to (d, m): exp(-((distance - centre) / width)^2), at least exp(-80), as basis.py has it.
extern "C" void gaussians(Index d, Index m, const Real *distance, const Real *centres, double width, Real *to) {
    for (Index r = 0; r < d; ++r) {
        for (Index k = 0; k < m; k += lanes) {
            const Index some = std::min(lanes, m - k);
            Lanes centre{};
            if (some == lanes) centre = load(centres + k);
            else for (Index q = 0; q < some; ++q) centre[q] = centres[k + q];
            Lanes x = (distance[r] - centre) / Real(width);
            x *= x;
            const Lanes height = exp_down(x > Real(80) ? Real(80) - Lanes{} : x);
            if (some == lanes) store(to + r * m + k, height);
            else for (Index q = 0; q < some; ++q) to[r * m + k + q] = height[q];
        }
    }
}
