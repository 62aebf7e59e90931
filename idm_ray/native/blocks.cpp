// One block of the ConvNet (3x3 convolution, instance norm, ReLU, 2x2 average pooling) on CPUs.
//
// Images are dense, channels last: (N, H, W, C). `threads` is the number of OpenMP threads; how work
// is split never changes the order of a sum, so results do not depend on it. The functions that are
// called from Python are at the end.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "common.h"

namespace {

// --- Elements: float, or bfloat16 as its bits -----------------------------------------------------

struct Bfloat16 {
  uint16_t bits;
};

inline float to_float(float value) { return value; }

inline float to_float(Bfloat16 value) {
  const uint32_t bits = uint32_t{value.bits} << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

template <typename T>
T from_float(float value);

template <>
inline float from_float<float>(float value) {
  return value;
}

template <>
inline Bfloat16 from_float<Bfloat16>(float value) {
  return {rounded(value)};
}

// --- Instance norm, ReLU and pooling --------------------------------------------------------------

struct Maps {
  int64_t images, height, width, channels;
  int64_t pixels() const { return height * width; }
  int64_t size() const { return pixels() * channels; }
};

// NaN stays NaN, so that it is seen in the loss.
inline float relu(float value) { return value < 0.0f ? 0.0f : value; }

// Sums over all pixels, row by row so that few terms of one size are added at a time.
template <typename Term>
void sum_over_pixels(const Maps& maps, float* sums, float* of_row, Term term) {
  std::fill_n(sums, maps.channels, 0.0f);
  for (int64_t y = 0; y < maps.height; ++y) {
    std::fill_n(of_row, maps.channels, 0.0f);
    for (int64_t x = 0; x < maps.width; ++x) {
      const int64_t at = (y * maps.width + x) * maps.channels;
      for (int64_t c = 0; c < maps.channels; ++c) of_row[c] += term(at + c, c);
    }
    for (int64_t c = 0; c < maps.channels; ++c) sums[c] += of_row[c];
  }
}

template <typename T>
void norm_of_image(const Maps& maps, const T* in, const float* weight, const float* bias, float eps,
                   T* out, float* mean, float* rstd, float* scratch) {
  const int64_t channels = maps.channels;
  const float share = 1.0f / static_cast<float>(maps.pixels());
  float *scale = scratch, *shift = scratch + channels;
  sum_over_pixels(maps, mean, scratch, [=](int64_t i, int64_t) { return to_float(in[i]); });
  for (int64_t c = 0; c < channels; ++c) mean[c] *= share;
  sum_over_pixels(maps, rstd, scratch, [=](int64_t i, int64_t c) {
    const float d = to_float(in[i]) - mean[c];
    return d * d;
  });
  for (int64_t c = 0; c < channels; ++c) {
    rstd[c] = 1.0f / std::sqrt(rstd[c] * share + eps);
    scale[c] = rstd[c] * weight[c];
    shift[c] = bias[c] - mean[c] * scale[c];
  }
  const int64_t row = maps.width * channels;
  for (int64_t y = 0; y < maps.height / 2; ++y) {
    for (int64_t x = 0; x < maps.width / 2; ++x) {
      const T* corner = in + 2 * (y * row + x * channels);
      for (int64_t c = 0; c < channels; ++c) {
        const auto positive = [&](int64_t offset) {
          return relu(to_float(corner[offset + c]) * scale[c] + shift[c]);
        };
        const float sum = positive(0) + positive(channels) + positive(row) + positive(row + channels);
        *out++ = from_float<T>(0.25f * sum);
      }
    }
  }
}

// Gradient for the convolution's output of one image; sums of (gradient) and (gradient * normalised)
// are the image's part of the gradients of bias and weight.
template <typename T>
void norm_of_image_backward(const Maps& maps, const T* gradient, const T* in, const float* weight,
                            const float* bias, const float* mean, const float* rstd, T* out,
                            float* d_weight, float* d_bias, float* scratch) {
  const int64_t channels = maps.channels, row = maps.width * channels;
  const int64_t pooled_height = maps.height / 2, pooled_width = maps.width / 2;
  const float share = 1.0f / static_cast<float>(maps.pixels());
  float *scale = scratch, *shift = scale + channels;
  float *constant = shift + channels, *slope = constant + channels;
  for (int64_t c = 0; c < channels; ++c) {
    scale[c] = rstd[c] * weight[c];
    shift[c] = bias[c] - mean[c] * scale[c];
  }
  std::fill_n(d_weight, channels, 0.0f);
  std::fill_n(d_bias, channels, 0.0f);
  for (int64_t y = 0; y < pooled_height; ++y) {
    float *row_weight = constant, *row_bias = slope;
    std::fill_n(row_weight, channels, 0.0f);
    std::fill_n(row_bias, channels, 0.0f);
    for (int64_t x = 0; x < pooled_width; ++x) {
      const T* corner = in + 2 * (y * row + x * channels);
      const T* g = gradient + (y * pooled_width + x) * channels;
      for (int64_t c = 0; c < channels; ++c) {
        float count = 0.0f, sum = 0.0f;
        for (const int64_t offset : {int64_t{0}, channels, row, row + channels}) {
          const float value = to_float(corner[offset + c]);
          const float on = value * scale[c] + shift[c] > 0.0f ? 1.0f : 0.0f;
          count += on;
          sum += on * (value - mean[c]);
        }
        row_bias[c] += to_float(g[c]) * count;
        row_weight[c] += to_float(g[c]) * sum;
      }
    }
    for (int64_t c = 0; c < channels; ++c) {
      d_weight[c] += row_weight[c];
      d_bias[c] += row_bias[c];
    }
  }
  for (int64_t c = 0; c < channels; ++c) {
    d_bias[c] *= 0.25f;
    d_weight[c] *= 0.25f * rstd[c];
    // out = scale * (gradient - mean of it - normalised * mean of (gradient * normalised))
    slope[c] = -scale[c] * rstd[c] * d_weight[c] * share;
    constant[c] = -scale[c] * d_bias[c] * share - slope[c] * mean[c];
  }
  for (int64_t y = 0; y < maps.height; ++y) {
    for (int64_t x = 0; x < maps.width; ++x) {
      const int64_t at = y * row + x * channels;
      const bool pooled = y / 2 < pooled_height && x / 2 < pooled_width;
      if (!pooled) {
        for (int64_t c = 0; c < channels; ++c)
          out[at + c] = from_float<T>(to_float(in[at + c]) * slope[c] + constant[c]);
        continue;
      }
      const T* g = gradient + (y / 2 * pooled_width + x / 2) * channels;
      for (int64_t c = 0; c < channels; ++c) {
        const float value = to_float(in[at + c]);
        const float on = value * scale[c] + shift[c] > 0.0f ? 0.25f * scale[c] : 0.0f;
        out[at + c] = from_float<T>(on * to_float(g[c]) + value * slope[c] + constant[c]);
      }
    }
  }
}

template <typename T>
void norm_forward(const Maps& maps, const T* in, const float* weight, const float* bias, float eps,
                  T* out, float* mean, float* rstd, int threads) {
  const int64_t channels = maps.channels;
  const int64_t out_size = (maps.height / 2) * (maps.width / 2) * channels;
#pragma omp parallel num_threads(threads)
  {
    const Scratch<float> scratch(2 * channels);
#pragma omp for schedule(static)
    for (int64_t n = 0; n < maps.images; ++n)
      norm_of_image(maps, in + n * maps.size(), weight, bias, eps, out + n * out_size,
                    mean + n * channels, rstd + n * channels, scratch.get());
  }
}

template <typename T>
void norm_backward(const Maps& maps, const T* gradient, const T* in, const float* weight,
                   const float* bias, const float* mean, const float* rstd, T* out, float* d_weight,
                   float* d_bias, int threads) {
  const int64_t channels = maps.channels;
  const int64_t pooled_size = (maps.height / 2) * (maps.width / 2) * channels;
#pragma omp parallel num_threads(threads)
  {
    const Scratch<float> scratch(4 * channels);
#pragma omp for schedule(static)
    for (int64_t n = 0; n < maps.images; ++n)
      norm_of_image_backward(maps, gradient + n * pooled_size, in + n * maps.size(), weight, bias,
                             mean + n * channels, rstd + n * channels, out + n * maps.size(),
                             d_weight + n * channels, d_bias + n * channels, scratch.get());
  }
}

}  // namespace

extern "C" {

void norm_relu_pool_float32(int64_t n, int64_t h, int64_t w, int64_t c, const float* in,
                            const float* weight, const float* bias, float eps, float* out,
                            float* mean, float* rstd, int threads) {
  norm_forward<float>({n, h, w, c}, in, weight, bias, eps, out, mean, rstd, threads);
}

void norm_relu_pool_bfloat16(int64_t n, int64_t h, int64_t w, int64_t c, const Bfloat16* in,
                             const float* weight, const float* bias, float eps, Bfloat16* out,
                             float* mean, float* rstd, int threads) {
  norm_forward<Bfloat16>({n, h, w, c}, in, weight, bias, eps, out, mean, rstd, threads);
}

void norm_relu_pool_backward_float32(int64_t n, int64_t h, int64_t w, int64_t c,
                                     const float* gradient, const float* in, const float* weight,
                                     const float* bias, const float* mean, const float* rstd,
                                     float* out, float* d_weight, float* d_bias, int threads) {
  norm_backward<float>({n, h, w, c}, gradient, in, weight, bias, mean, rstd, out, d_weight, d_bias,
                       threads);
}

void norm_relu_pool_backward_bfloat16(int64_t n, int64_t h, int64_t w, int64_t c,
                                      const Bfloat16* gradient, const Bfloat16* in,
                                      const float* weight, const float* bias, const float* mean,
                                      const float* rstd, Bfloat16* out, float* d_weight,
                                      float* d_bias, int threads) {
  norm_backward<Bfloat16>({n, h, w, c}, gradient, in, weight, bias, mean, rstd, out, d_weight,
                          d_bias, threads);
}

}
