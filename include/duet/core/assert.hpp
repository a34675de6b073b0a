#pragma once

#include <cstdio>
#include <cstdlib>

/// A broken promise inside Duet itself: shapes that our own code must have made equal. Checked in debug builds and
/// wherever DUET_CHECKED is defined, free otherwise. Bad input never ends here: it throws duet::Error.
#if defined(DUET_CHECKED) || !defined(NDEBUG)
#define DUET_ASSERT(condition, sentence)                                                      \
  do {                                                                                        \
    if (!(condition)) {                                                                       \
      std::fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, sentence, #condition);     \
      std::abort();                                                                           \
    }                                                                                         \
  } while (false)
#else
#define DUET_ASSERT(condition, sentence) static_cast<void>(0)
#endif
