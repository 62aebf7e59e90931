// 3x3 convolutions in bfloat16 for processors with dot products of bfloat16 pairs (AVX512-BF16).
//
// With many channels: Winograd's F(2x2, 3x3), 16 products where the plain sum takes 36 (Lavin and
// Gray, 2016). With few, as in the first layer: the plain sum as one small matrix product per image.
// Images are dense, channels last, except for the first layer's, which are planes of float32.
// Sums are float32 and their order does not depend on `threads`.

#if defined(__AVX512BF16__) && defined(__AVX512BW__)

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "common.h"

namespace {

constexpr int kLanes = 16;    // floats in a vector
constexpr int kPanel = 64;    // output channels in one pass of a matrix product
constexpr int kPoints = 16;   // of a transformed tile
constexpr int kChunk = 64;    // tiles transformed at a time: their 16 matrices stay in the L2 cache
constexpr int kGroup = 512;   // tiles of which all transforms are kept for weights' gradients
constexpr int kPad = 64;      // bytes between matrices, lest their rows fall on the same cache lines

// --- Vectors of 16 floats, and of 16 bfloat16 in memory -------------------------------------------

inline __m512i widen(const uint16_t* from) {
  return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

inline __m512 load(const uint16_t* from) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(widen(from), 16));
}

inline void store(uint16_t* to, __m512 values) {
  const __m256bh rounded = _mm512_cvtneps_pbh(values);
  std::memcpy(to, &rounded, sizeof rounded);
}

// Rounds both; each lane holds a pair (first, second), as dot products take them.
inline __m512i pair(__m512 first, __m512 second) {
  __m256bh low = _mm512_cvtneps_pbh(first), high = _mm512_cvtneps_pbh(second);
  __m256i low_bits, high_bits;
  std::memcpy(&low_bits, &low, sizeof low);
  std::memcpy(&high_bits, &high, sizeof high);
  return _mm512_or_si512(_mm512_cvtepu16_epi32(low_bits),
                         _mm512_slli_epi32(_mm512_cvtepu16_epi32(high_bits), 16));
}

// --- Matrix product of bfloat16 pairs -------------------------------------------------------------

// A pair of neighbours along the summed dimension is one 32-bit word.
struct Pairs {
  const uint32_t* words;
  int64_t row_step, pair_step;
};

// Where sums begin and what becomes of them; `r` counts rows, `c` columns of the product.
struct Store {
  float* out;
  int64_t step;
  __m512 begin(int64_t, int64_t) const { return _mm512_setzero_ps(); }
  void end(int64_t r, int64_t c, __m512 sum) const { _mm512_storeu_ps(out + r * step + c, sum); }
};

struct Add {
  float* out;
  int64_t step;
  __m512 begin(int64_t r, int64_t c) const { return _mm512_loadu_ps(out + r * step + c); }
  void end(int64_t r, int64_t c, __m512 sum) const { _mm512_storeu_ps(out + r * step + c, sum); }
};

struct Round {
  uint16_t* out;
  int64_t step;
  const float* bias;
  __m512 begin(int64_t, int64_t c) const { return _mm512_loadu_ps(bias + c); }
  void end(int64_t r, int64_t c, __m512 sum) const { store(out + r * step + c, sum); }
};

template <int kRows, int kVectors, typename Result>
inline void multiply_rows(Pairs a, const uint32_t* b, int64_t b_step, int64_t num_pairs, int64_t row,
                          Result result) {
  __m512 sums[kRows][kVectors];
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) sums[r][v] = result.begin(row + r, v * kLanes);
  for (int64_t k = 0; k < num_pairs; ++k) {
    __m512i right[kVectors];
    for (int v = 0; v < kVectors; ++v) right[v] = _mm512_loadu_si512(b + k * b_step + v * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const __m512i left = _mm512_set1_epi32(a.words[(row + r) * a.row_step + k * a.pair_step]);
      for (int v = 0; v < kVectors; ++v)
        sums[r][v] = _mm512_dpbf16_ps(sums[r][v], (__m512bh)left, (__m512bh)right[v]);
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) result.end(row + r, v * kLanes, sums[r][v]);
}

// a (rows, 2 * num_pairs) times b (2 * num_pairs, 16 * kVectors), of which b_step words are a row.
template <int kVectors, typename Result>
void multiply(Pairs a, const uint32_t* b, int64_t b_step, int64_t rows, int64_t num_pairs,
              Result result) {
  int64_t r = 0;
  for (; r + 6 <= rows; r += 6) multiply_rows<6, kVectors>(a, b, b_step, num_pairs, r, result);
  for (; r + 2 <= rows; r += 2) multiply_rows<2, kVectors>(a, b, b_step, num_pairs, r, result);
  if (r < rows) multiply_rows<1, kVectors>(a, b, b_step, num_pairs, r, result);
}

// --- Winograd's transforms ------------------------------------------------------------------------

struct Tiling {
  int64_t images, height, width;
  int64_t rows() const { return (height + 1) / 2; }
  int64_t columns() const { return (width + 1) / 2; }
  int64_t count() const { return images * rows() * columns(); }
};

struct Tile {
  int64_t image, y, x;  // of its first output pixel
};

inline Tile tile_at(const Tiling& tiling, int64_t t) {
  const int64_t per_image = tiling.rows() * tiling.columns(), within = t % per_image;
  return {t / per_image, within / tiling.columns() * 2, within % tiling.columns() * 2};
}

// Pointers to the 4x4 input pixels of a tile; outside the image, to zeros.
inline void input_pixels(const Tiling& tiling, const uint16_t* images, int64_t channels,
                         const uint16_t* zeros, int64_t t, const uint16_t* pixels[kPoints]) {
  const Tile tile = tile_at(tiling, t);
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      const int64_t y = tile.y + i - 1, x = tile.x + j - 1;
      const bool inside = y >= 0 && y < tiling.height && x >= 0 && x < tiling.width;
      pixels[i * 4 + j] =
          inside ? images + ((tile.image * tiling.height + y) * tiling.width + x) * channels : zeros;
    }
  }
}

// (1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1) times four rows.
inline void input_transform(const __m512 in[4], __m512 out[4]) {
  out[0] = _mm512_sub_ps(in[0], in[2]);
  out[1] = _mm512_add_ps(in[1], in[2]);
  out[2] = _mm512_sub_ps(in[2], in[1]);
  out[3] = _mm512_sub_ps(in[1], in[3]);
}

inline void transform_input_tile(const uint16_t* const pixels[kPoints], int64_t c,
                                 __m512 out[kPoints]) {
  __m512 half[4][4];
  for (int j = 0; j < 4; ++j) {
    __m512 column[4], done[4];
    for (int i = 0; i < 4; ++i) column[i] = load(pixels[i * 4 + j] + c);
    input_transform(column, done);
    for (int i = 0; i < 4; ++i) half[i][j] = done[i];
  }
  for (int i = 0; i < 4; ++i) input_transform(half[i], out + i * 4);
}

// Gradients of the 2x2 output pixels of a tile, (1 0; 1 1; 1 -1; 0 -1) from both sides.
inline void transform_gradient_tile(const uint16_t* const pixels[4], int64_t c,
                                    __m512 out[kPoints]) {
  __m512 g[4], half[4][2];
  for (int i = 0; i < 4; ++i) g[i] = load(pixels[i] + c);
  for (int j = 0; j < 2; ++j) {
    half[0][j] = g[j];
    half[1][j] = _mm512_add_ps(g[j], g[2 + j]);
    half[2][j] = _mm512_sub_ps(g[j], g[2 + j]);
    half[3][j] = _mm512_sub_ps(_mm512_setzero_ps(), g[2 + j]);
  }
  for (int i = 0; i < 4; ++i) {
    out[i * 4 + 0] = half[i][0];
    out[i * 4 + 1] = _mm512_add_ps(half[i][0], half[i][1]);
    out[i * 4 + 2] = _mm512_sub_ps(half[i][0], half[i][1]);
    out[i * 4 + 3] = _mm512_sub_ps(_mm512_setzero_ps(), half[i][1]);
  }
}

// The 2x2 outputs of a tile: (1 1 1 0; 0 1 -1 -1) from both sides.
inline void output_transform(const float* points, int64_t step, __m512 out[4]) {
  __m512 half[2][4];
  for (int j = 0; j < 4; ++j) {
    const __m512 a = _mm512_load_ps(points + j * step), b = _mm512_load_ps(points + (4 + j) * step);
    const __m512 c = _mm512_load_ps(points + (8 + j) * step);
    const __m512 d = _mm512_load_ps(points + (12 + j) * step);
    half[0][j] = _mm512_add_ps(_mm512_add_ps(a, b), c);
    half[1][j] = _mm512_sub_ps(_mm512_sub_ps(b, c), d);
  }
  for (int i = 0; i < 2; ++i) {
    out[i * 2] = _mm512_add_ps(_mm512_add_ps(half[i][0], half[i][1]), half[i][2]);
    out[i * 2 + 1] = _mm512_sub_ps(_mm512_sub_ps(half[i][1], half[i][2]), half[i][3]);
  }
}

// A kernel's 16 points: (1 0 0; .5 .5 .5; .5 -.5 .5; 0 0 1) from both sides.
inline void kernel_transform(const float g[9], float out[kPoints]) {
  float half[4][3];
  for (int j = 0; j < 3; ++j) {
    half[0][j] = g[j];
    half[1][j] = 0.5f * (g[j] + g[3 + j] + g[6 + j]);
    half[2][j] = 0.5f * (g[j] - g[3 + j] + g[6 + j]);
    half[3][j] = g[6 + j];
  }
  for (int i = 0; i < 4; ++i) {
    out[i * 4] = half[i][0];
    out[i * 4 + 1] = 0.5f * (half[i][0] + half[i][1] + half[i][2]);
    out[i * 4 + 2] = 0.5f * (half[i][0] - half[i][1] + half[i][2]);
    out[i * 4 + 3] = half[i][2];
  }
}

// The transpose of kernel_transform: 16 sums to a kernel's gradient.
inline void kernel_gradient(const float points[kPoints], float out[9]) {
  float half[3][4];
  for (int j = 0; j < 4; ++j) {
    const float a = points[j], b = points[4 + j], c = points[8 + j], d = points[12 + j];
    half[0][j] = a + 0.5f * (b + c);
    half[1][j] = 0.5f * (b - c);
    half[2][j] = 0.5f * (b + c) + d;
  }
  for (int i = 0; i < 3; ++i) {
    const float *h = half[i];
    out[i * 3] = h[0] + 0.5f * (h[1] + h[2]);
    out[i * 3 + 1] = 0.5f * (h[1] - h[2]);
    out[i * 3 + 2] = 0.5f * (h[1] + h[2]) + h[3];
  }
}

// --- Winograd's convolution -----------------------------------------------------------------------

// Pairs of input channels by output channel, [panel][point][in / 2][kPanel]. `backward` exchanges
// the channels and turns the kernels, as the gradient for the input needs them.
void transform_weights(const float* weights, int64_t in, int64_t out, bool backward,
                       uint16_t* words, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t i = 0; i < in; ++i) {
    for (int64_t o = 0; o < out; ++o) {
      const float* source = weights + (backward ? i * out + o : o * in + i) * 9;
      float kernel[9], points[kPoints];
      for (int k = 0; k < 9; ++k) kernel[k] = source[backward ? 8 - k : k];
      kernel_transform(kernel, points);
      for (int p = 0; p < kPoints; ++p) {
        const int64_t row = (o / kPanel * kPoints + p) * (in / 2) + i / 2;
        words[(row * kPanel + o % kPanel) * 2 + i % 2] = rounded(points[p]);
      }
    }
  }
}

void transform_chunk(const Tiling& tiling, const uint16_t* images, int64_t channels,
                     const uint16_t* zeros, int64_t first, int64_t count, uint16_t* transformed,
                     int64_t step) {
  for (int64_t t = 0; t < count; ++t) {
    const uint16_t* pixels[kPoints];
    input_pixels(tiling, images, channels, zeros, first + t, pixels);
    for (int64_t c = 0; c < channels; c += kLanes) {
      __m512 points[kPoints];
      transform_input_tile(pixels, c, points);
      for (int p = 0; p < kPoints; ++p)
        store(transformed + p * step + t * channels + c, points[p]);
    }
  }
}

void write_outputs(const Tiling& tiling, const float* products, int64_t step, const float* bias,
                   int64_t out, int64_t panel, int64_t first, int64_t count, uint16_t* images) {
  for (int64_t t = 0; t < count; ++t) {
    const Tile tile = tile_at(tiling, first + t);
    for (int64_t c = 0; c < kPanel; c += kLanes) {
      __m512 pixels[4];
      output_transform(products + t * kPanel + c, step, pixels);
      const __m512 offset = bias ? _mm512_loadu_ps(bias + panel + c) : _mm512_setzero_ps();
      for (int i = 0; i < 4; ++i) {
        const int64_t y = tile.y + i / 2, x = tile.x + i % 2;
        if (y < tiling.height && x < tiling.width)
          store(images + ((tile.image * tiling.height + y) * tiling.width + x) * out + panel + c,
                _mm512_add_ps(pixels[i], offset));
      }
    }
  }
}

void winograd(const Tiling& tiling, const uint16_t* images, int64_t in, int64_t out,
              const float* weights, bool backward, const float* bias, uint16_t* result,
              int threads) {
  const Scratch<uint16_t> words(kPoints * in * out);
  transform_weights(weights, in, out, backward, words.get(), threads);
  const auto* panels = reinterpret_cast<const uint32_t*>(words.get());
  const int64_t chunks = (tiling.count() + kChunk - 1) / kChunk, pairs = in / 2;
  // From one point's matrix to the next.
  const int64_t input_step = kChunk * in + kPad / 2, product_step = kChunk * kPanel + kPad / 4;
#pragma omp parallel num_threads(threads)
  {
    const Scratch<uint16_t> zeros(in), transformed(kPoints * input_step);
    const Scratch<float> products(kPoints * product_step);
    std::fill_n(zeros.get(), in, uint16_t{0});
#pragma omp for schedule(static)
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t first = chunk * kChunk, count = std::min<int64_t>(kChunk, tiling.count() - first);
      transform_chunk(tiling, images, in, zeros.get(), first, count, transformed.get(),
                      input_step);
      for (int64_t panel = 0; panel < out; panel += kPanel) {
        for (int64_t p = 0; p < kPoints; ++p) {
          const auto* rows = reinterpret_cast<const uint32_t*>(transformed.get() + p * input_step);
          multiply<4>({rows, pairs, 1}, panels + (panel / kPanel * kPoints + p) * pairs * kPanel,
                      kPanel, count, pairs, Store{products.get() + p * product_step, kPanel});
        }
        write_outputs(tiling, products.get(), product_step, bias, out, panel, first, count, result);
      }
    }
  }
}

// Transforms two neighbouring tiles into pairs, [point][tile / 2][channel].
template <typename Transform>
void transform_pair(int64_t channels, int64_t t, uint32_t* words, int64_t step, Transform transform) {
  for (int64_t c = 0; c < channels; c += kLanes) {
    __m512 first[kPoints], second[kPoints];
    transform(t, c, first);
    transform(t + 1, c, second);
    for (int p = 0; p < kPoints; ++p)
      _mm512_storeu_si512(words + p * step + t / 2 * channels + c, pair(first[p], second[p]));
  }
}

void weight_gradient(const Tiling& tiling, const uint16_t* images, int64_t in,
                              const uint16_t* gradients, int64_t out, float* result, int threads) {
  const int64_t in_step = kGroup / 2 * in + kPad / 4, out_step = kGroup / 2 * out + kPad / 4;
  const Scratch<uint32_t> inputs(kPoints * in_step), outputs(kPoints * out_step);
  const Scratch<float> sums(kPoints * in * out);
  const Scratch<uint16_t> zeros(std::max(in, out));
  std::fill_n(sums.get(), kPoints * in * out, 0.0f);
  std::fill_n(zeros.get(), std::max(in, out), uint16_t{0});
  const auto input = [&, images](int64_t t, int64_t c, __m512* points) {
    const uint16_t* pixels[kPoints];
    if (t < tiling.count())
      input_pixels(tiling, images, in, zeros.get(), t, pixels);
    else
      std::fill_n(pixels, kPoints, zeros.get());
    transform_input_tile(pixels, c, points);
  };
  const auto gradient = [&, gradients](int64_t t, int64_t c, __m512* points) {
    const Tile tile = tile_at(tiling, t);
    const uint16_t* pixels[4];
    for (int i = 0; i < 4; ++i) {
      const int64_t y = tile.y + i / 2, x = tile.x + i % 2;
      const bool inside = t < tiling.count() && y < tiling.height && x < tiling.width;
      pixels[i] = inside
                      ? gradients + ((tile.image * tiling.height + y) * tiling.width + x) * out
                      : zeros.get();
    }
    transform_gradient_tile(pixels, c, points);
  };
#pragma omp parallel num_threads(threads)
  for (int64_t first = 0; first < tiling.count(); first += kGroup) {
    const int64_t count = std::min<int64_t>(kGroup, tiling.count() - first);
    const int64_t pairs = (count + 1) / 2;
#pragma omp for schedule(static)
    for (int64_t k = 0; k < pairs; ++k) {
      transform_pair(in, 2 * k, inputs.get(), in_step, [&](int64_t t, int64_t c, __m512* points) {
        input(first + t, c, points);
      });
      transform_pair(out, 2 * k, outputs.get(), out_step, [&](int64_t t, int64_t c, __m512* points) {
        gradient(first + t, c, points);
      });
    }
#pragma omp for schedule(static)
    for (int64_t p = 0; p < kPoints; ++p)
      for (int64_t panel = 0; panel < out; panel += kPanel)
        multiply<4>({inputs.get() + p * in_step, 1, in},
                    outputs.get() + p * out_step + panel, out, in, pairs,
                    Add{sums.get() + p * in * out + panel, out});
  }
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t o = 0; o < out; ++o) {
    for (int64_t i = 0; i < in; ++i) {
      float points[kPoints];
      for (int p = 0; p < kPoints; ++p) points[p] = sums.get()[(p * in + i) * out + o];
      kernel_gradient(points, result + (o * in + i) * 9);
    }
  }
}

// --- The first layer's convolution ----------------------------------------------------------------

struct Frame {
  int64_t images, channels, height, width, padding;
  int64_t out_height() const { return height + 2 * padding - 2; }
  int64_t out_width() const { return width + 2 * padding - 2; }
  int64_t terms() const { return channels * 9; }  // of the sum of an output pixel
  int64_t pairs() const { return (terms() + 1) / 2; }
  int64_t row_pairs() const { return (out_width() + 1) / 2; }
  // Rows of padded pixels end in zeros, so that whole vectors can be read.
  int64_t padded_row() const { return width + 2 * padding + 2 * kLanes; }
  int64_t image_size() const { return channels * height * width; }
};

// The padded input rows that an output row needs, [channel][3]: term k of output pixel x is
// rows[k / 3 * padded_row + k % 3 + x].
void gather_rows(const Frame& frame, const float* image, int64_t y, float* rows) {
  for (int64_t i = 0; i < frame.channels * 3; ++i, rows += frame.padded_row()) {
    const int64_t from = y + i % 3 - frame.padding;
    std::fill_n(rows, frame.padded_row(), 0.0f);
    if (from >= 0 && from < frame.height)
      std::copy_n(image + (i / 3 * frame.height + from) * frame.width, frame.width,
                  rows + frame.padding);
  }
}

inline const float* term(const Frame& frame, const float* rows, int64_t k) {
  return rows + k / 3 * frame.padded_row() + k % 3;
}

// `out` kernels (out, terms) as pairs of terms, [panel][pair][kPanel].
void pair_kernels(const Frame& frame, const float* weights, int64_t out, uint16_t* words) {
  std::fill_n(words, 2 * frame.pairs() * out, uint16_t{0});
  for (int64_t o = 0; o < out; ++o)
    for (int64_t k = 0; k < frame.terms(); ++k)
      words[((o / kPanel * frame.pairs() + k / 2) * kPanel + o % kPanel) * 2 + k % 2] =
          rounded(weights[o * frame.terms() + k]);
}

void forward_of_first(const Frame& frame, const float* images, const float* weights, const float* bias,
                   int64_t out, uint16_t* result, int threads) {
  const Scratch<uint16_t> words(2 * frame.pairs() * out);
  pair_kernels(frame, weights, out, words.get());
  const auto* kernels = reinterpret_cast<const uint32_t*>(words.get());
  const int64_t width = frame.out_width(), step = width + kLanes;
#pragma omp parallel num_threads(threads)
  {
    const Scratch<float> rows(frame.channels * 3 * frame.padded_row());
    const Scratch<uint32_t> terms(frame.pairs() * step);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < frame.images * frame.out_height(); ++i) {
      gather_rows(frame, images + i / frame.out_height() * frame.image_size(),
                  i % frame.out_height(), rows.get());
      for (int64_t k = 0; k < frame.pairs(); ++k) {
        const float* low = term(frame, rows.get(), 2 * k);
        const float* high = term(frame, rows.get(), std::min(2 * k + 1, frame.terms() - 1));
        for (int64_t x = 0; x < width; x += kLanes)
          _mm512_storeu_si512(terms.get() + k * step + x,
                              pair(_mm512_loadu_ps(low + x), _mm512_loadu_ps(high + x)));
      }
      for (int64_t panel = 0; panel < out; panel += kPanel) {
        multiply<4>({terms.get(), 1, step}, kernels + panel * frame.pairs(), kPanel, width,
                    frame.pairs(), Round{result + i * width * out + panel, out, bias + panel});
      }
    }
  }
}

// Adds the products of one image's terms and gradients to sums (terms, out), some rows at a time.
void add_image(const Frame& frame, const float* image, const uint16_t* gradient, int64_t out,
               int64_t block, float* rows, uint16_t* terms, uint32_t* pairs, float* sums) {
  const int64_t width = frame.out_width(), step = block * frame.row_pairs();
  for (int64_t first = 0; first < frame.out_height(); first += block) {
    const int64_t count = std::min(block, frame.out_height() - first);
    for (int64_t r = 0; r < count; ++r) {
      gather_rows(frame, image, first + r, rows);
      for (int64_t k = 0; k < frame.terms(); ++k)
        for (int64_t x = 0; x < 2 * frame.row_pairs(); ++x)
          terms[2 * (k * step + r * frame.row_pairs()) + x] = rounded(term(frame, rows, k)[x]);
      for (int64_t x = 0; x < width; x += 2) {
        const uint16_t* pixel = gradient + ((first + r) * width + x) * out;
        for (int64_t c = 0; c < out; c += kLanes) {
          const __m512i next = x + 1 < width ? widen(pixel + out + c) : _mm512_setzero_si512();
          _mm512_storeu_si512(pairs + (r * frame.row_pairs() + x / 2) * out + c,
                              _mm512_or_si512(widen(pixel + c), _mm512_slli_epi32(next, 16)));
        }
      }
    }
    for (int64_t panel = 0; panel < out; panel += kPanel)
      multiply<4>({reinterpret_cast<const uint32_t*>(terms), step, 1}, pairs + panel, out,
                  frame.terms(), count * frame.row_pairs(), Add{sums + panel, out});
  }
}

void weight_gradient_of_first(const Frame& frame, const float* images, const uint16_t* gradients,
                           int64_t out, float* result, int threads) {
  constexpr int64_t kTogether = 8;  // images that are summed at once, whatever the threads
  const int64_t parts = (frame.images + kTogether - 1) / kTogether;
  const int64_t block = std::max<int64_t>(1, kChunk / frame.row_pairs());
  const int64_t size = frame.terms() * out, out_size = frame.out_height() * frame.out_width() * out;
  const Scratch<float> sums(parts * size);
  std::fill_n(sums.get(), parts * size, 0.0f);
#pragma omp parallel num_threads(threads)
  {
    const Scratch<float> rows(frame.channels * 3 * frame.padded_row());
    const Scratch<uint16_t> terms(2 * frame.terms() * block * frame.row_pairs());
    const Scratch<uint32_t> pairs(block * frame.row_pairs() * out);
#pragma omp for schedule(static)
    for (int64_t part = 0; part < parts; ++part)
      for (int64_t n = part * kTogether; n < std::min(frame.images, (part + 1) * kTogether); ++n)
        add_image(frame, images + n * frame.image_size(), gradients + n * out_size, out, block,
                  rows.get(), terms.get(), pairs.get(), sums.get() + part * size);
  }
  for (int64_t o = 0; o < out; ++o) {
    for (int64_t k = 0; k < frame.terms(); ++k) {
      float sum = 0.0f;
      for (int64_t part = 0; part < parts; ++part) sum += sums.get()[part * size + k * out + o];
      result[o * frame.terms() + k] = sum;
    }
  }
}

// One image's gradient, scattered from the gradients of the terms of each output pixel.
void scatter_image(const Frame& frame, const uint16_t* gradient, const uint32_t* kernels,
                   int64_t out, float* products, float* padded, float* result) {
  const int64_t width = frame.out_width(), row = frame.width + 2 * frame.padding;
  const int64_t plane = (frame.height + 2 * frame.padding) * row;
  std::fill_n(padded, frame.channels * plane, 0.0f);
  for (int64_t y = 0; y < frame.out_height(); ++y) {
    multiply<2>({reinterpret_cast<const uint32_t*>(gradient + y * width * out), out / 2, 1}, kernels,
                2 * kLanes, width, out / 2, Store{products, 2 * kLanes});
    for (int64_t k = 0; k < frame.terms(); ++k) {
      float* to = padded + k / 9 * plane + (y + k % 9 / 3) * row + k % 3;
      for (int64_t x = 0; x < width; ++x) to[x] += products[x * 2 * kLanes + k];
    }
  }
  for (int64_t i = 0; i < frame.channels * frame.height; ++i)
    std::copy_n(padded + i / frame.height * plane + (i % frame.height + frame.padding) * row +
                    frame.padding,
                frame.width, result + i * frame.width);
}

void input_gradient_of_first(const Frame& frame, const uint16_t* gradients, const float* weights,
                          int64_t out, float* result, int threads) {
  const Scratch<uint16_t> words(out * 2 * kLanes);
  std::fill_n(words.get(), out * 2 * kLanes, uint16_t{0});
  for (int64_t o = 0; o < out; ++o)
    for (int64_t k = 0; k < frame.terms(); ++k)
      words.get()[(o / 2 * 2 * kLanes + k) * 2 + o % 2] = rounded(weights[o * frame.terms() + k]);
  const auto* kernels = reinterpret_cast<const uint32_t*>(words.get());
  const int64_t out_size = frame.out_height() * frame.out_width() * out;
  const int64_t padded_size = frame.channels * (frame.height + 2 * frame.padding) *
                              (frame.width + 2 * frame.padding);
#pragma omp parallel num_threads(threads)
  {
    const Scratch<float> products(frame.out_width() * 2 * kLanes), padded(padded_size);
#pragma omp for schedule(static)
    for (int64_t n = 0; n < frame.images; ++n)
      scatter_image(frame, gradients + n * out_size, kernels, out, products.get(), padded.get(),
                    result + n * frame.image_size());
  }
}

}  // namespace

extern "C" {

void winograd_convolution(int64_t n, int64_t h, int64_t w, int64_t in, int64_t out,
                          const uint16_t* images, const float* weights, const float* bias,
                          uint16_t* result, int threads) {
  winograd({n, h, w}, images, in, out, weights, false, bias, result, threads);
}

void winograd_input_gradient(int64_t n, int64_t h, int64_t w, int64_t in, int64_t out,
                             const uint16_t* gradients, const float* weights, uint16_t* result,
                             int threads) {
  winograd({n, h, w}, gradients, out, in, weights, true, nullptr, result, threads);
}

void winograd_weight_gradient(int64_t n, int64_t h, int64_t w, int64_t in, int64_t out,
                              const uint16_t* images, const uint16_t* gradients, float* result,
                              int threads) {
  weight_gradient({n, h, w}, images, in, gradients, out, result, threads);
}

void first_convolution(int64_t n, int64_t c, int64_t h, int64_t w, int64_t padding, int64_t out,
                       const float* images, const float* weights, const float* bias,
                       uint16_t* result, int threads) {
  forward_of_first({n, c, h, w, padding}, images, weights, bias, out, result, threads);
}

void first_input_gradient(int64_t n, int64_t c, int64_t h, int64_t w, int64_t padding, int64_t out,
                          const uint16_t* gradients, const float* weights, float* result,
                          int threads) {
  input_gradient_of_first({n, c, h, w, padding}, gradients, weights, out, result, threads);
}

void first_weight_gradient(int64_t n, int64_t c, int64_t h, int64_t w, int64_t padding, int64_t out,
                           const float* images, const uint16_t* gradients, float* result,
                           int threads) {
  weight_gradient_of_first({n, c, h, w, padding}, images, gradients, out, result, threads);
}

}

#endif
