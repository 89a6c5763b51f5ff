// A step of Adam with decoupled weight decay (arXiv:1711.05101) over all parameters, as PyTorch's fused kernel takes it.
//
// adamw.py fills the structures.

#include <cmath>
#include <cstdint>

struct Parameter {
    std::int64_t size;
    float *value, *mean, *square, *step;  // running means of the gradient and of its square, how many steps there were
    double decay, beta_2, eps;
};

struct Now { const float *gradient; double rate, beta_1; };  // what a schedule moves

extern "C" void adamw(const Parameter *parameters, const Now *now, std::int64_t count) {
    for (std::int64_t k = 0; k < count; ++k) {
        const Parameter p = parameters[k];
        const double rate = now[k].rate, beta_1 = now[k].beta_1;
        const double step = *p.step += 1;
        const float keep = float(1 - rate * p.decay), new_1 = float(1 - beta_1), new_2 = float(1 - p.beta_2);
        const float size = float(rate / (1 - std::pow(beta_1, step)));
        const float root = float(1 / std::sqrt(1 - std::pow(p.beta_2, step))), old_2 = float(p.beta_2);
        const float eps = float(p.eps);
        for (std::int64_t q = 0; q < p.size; ++q) {
            const float g = now[k].gradient[q];
            const float mean = p.mean[q] += new_1 * (g - p.mean[q]);
            const float square = p.square[q] = old_2 * p.square[q] + new_2 * g * g;
            p.value[q] = keep * p.value[q] - size * mean / (std::sqrt(square) * root + eps);
        }
    }
}
