// Replaces the global operator new by one that counts. A unit of its own: compilers warn of replaced operators they can inline.

#include "support/allocations.hpp"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

std::atomic<long> allocations{0};

[[maybe_unused]] void* allocate(std::size_t size, std::size_t alignment) {
  ++allocations;
  if (void* memory = std::aligned_alloc(alignment, (size + alignment) / alignment * alignment)) return memory;
  throw std::bad_alloc();
}

}  // namespace

namespace duet::testing {
long allocation_count() { return allocations; }
}  // namespace duet::testing

// ThreadSanitizer of clang brings operators of its own and cannot be linked beside others: there nothing is counted.
#if !defined(__has_feature)
#define DUET_REPLACES_NEW 1
#elif !__has_feature(thread_sanitizer)
#define DUET_REPLACES_NEW 1
#endif

#ifdef DUET_REPLACES_NEW
void* operator new(std::size_t size) { return allocate(size, alignof(std::max_align_t)); }
void* operator new(std::size_t size, std::align_val_t alignment) { return allocate(size, static_cast<std::size_t>(alignment)); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {  // std::stable_sort's
  ++allocations;
  return std::malloc(size);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
#endif
