// What the sources of this folder share.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

using std::int64_t;
using std::uint16_t;
using std::uint32_t;

// The bits of a bfloat16, rounded to nearest even. NaN stays NaN for all NaNs that arithmetic makes.
inline uint16_t rounded(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

// Memory for one call or one thread, aligned to cache lines, not initialised.
template <typename T>
class Scratch {
 public:
  explicit Scratch(int64_t count)
      : data_(static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t{64}))) {}
  ~Scratch() { ::operator delete(data_, std::align_val_t{64}); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* get() const { return data_; }

 private:
  T* data_;
};
