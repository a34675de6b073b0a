#pragma once

// stb_image as Duet's own: PNG, JPEG and BMP from memory, in a namespace, with internal linkage. A host program may hold
// its own stb_image, in any unit and even in the same one, before or after this header: every macro that stb_image.h
// reads or defines, its include guard among them, is put aside here and put back below, and its functions get names of
// their own, because C functions of one name are one function whatever their namespace.
//
// Each unit that includes this gets a copy with internal linkage. The inline functions that call it exist in several
// units then, each calling its own unit's copy; the linker keeps one of these functions together with the copy it was
// compiled against, so units built with different flags do not mix.

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif
#if defined(__ARM_NEON) || defined(__aarch64__)
#include <arm_neon.h>
#endif

// What stb_image.h reads or defines, put aside.
#pragma push_macro("STBIDEF")
#undef STBIDEF
#pragma push_macro("STBI_ASSERT")
#undef STBI_ASSERT
#pragma push_macro("STBI_EXTERN")
#undef STBI_EXTERN
#pragma push_macro("STBI_FAILURE_USERMSG")
#undef STBI_FAILURE_USERMSG
#pragma push_macro("STBI_FREE")
#undef STBI_FREE
#pragma push_macro("STBI_HAS_LROTL")
#undef STBI_HAS_LROTL
#pragma push_macro("STBI_INCLUDE_STB_IMAGE_H")
#undef STBI_INCLUDE_STB_IMAGE_H
#pragma push_macro("STBI_MALLOC")
#undef STBI_MALLOC
#pragma push_macro("STBI_MAX_DIMENSIONS")
#undef STBI_MAX_DIMENSIONS
#pragma push_macro("STBI_NEON")
#undef STBI_NEON
#pragma push_macro("STBI_NOTUSED")
#undef STBI_NOTUSED
#pragma push_macro("STBI_NO_BMP")
#undef STBI_NO_BMP
#pragma push_macro("STBI_NO_FAILURE_STRINGS")
#undef STBI_NO_FAILURE_STRINGS
#pragma push_macro("STBI_NO_GIF")
#undef STBI_NO_GIF
#pragma push_macro("STBI_NO_HDR")
#undef STBI_NO_HDR
#pragma push_macro("STBI_NO_JPEG")
#undef STBI_NO_JPEG
#pragma push_macro("STBI_NO_LINEAR")
#undef STBI_NO_LINEAR
#pragma push_macro("STBI_NO_PIC")
#undef STBI_NO_PIC
#pragma push_macro("STBI_NO_PNG")
#undef STBI_NO_PNG
#pragma push_macro("STBI_NO_PNM")
#undef STBI_NO_PNM
#pragma push_macro("STBI_NO_PSD")
#undef STBI_NO_PSD
#pragma push_macro("STBI_NO_SIMD")
#undef STBI_NO_SIMD
#pragma push_macro("STBI_NO_STDIO")
#undef STBI_NO_STDIO
#pragma push_macro("STBI_NO_TGA")
#undef STBI_NO_TGA
#pragma push_macro("STBI_NO_THREAD_LOCALS")
#undef STBI_NO_THREAD_LOCALS
#pragma push_macro("STBI_NO_ZLIB")
#undef STBI_NO_ZLIB
#pragma push_macro("STBI_ONLY_BMP")
#undef STBI_ONLY_BMP
#pragma push_macro("STBI_ONLY_GIF")
#undef STBI_ONLY_GIF
#pragma push_macro("STBI_ONLY_HDR")
#undef STBI_ONLY_HDR
#pragma push_macro("STBI_ONLY_JPEG")
#undef STBI_ONLY_JPEG
#pragma push_macro("STBI_ONLY_PIC")
#undef STBI_ONLY_PIC
#pragma push_macro("STBI_ONLY_PNG")
#undef STBI_ONLY_PNG
#pragma push_macro("STBI_ONLY_PNM")
#undef STBI_ONLY_PNM
#pragma push_macro("STBI_ONLY_PSD")
#undef STBI_ONLY_PSD
#pragma push_macro("STBI_ONLY_TGA")
#undef STBI_ONLY_TGA
#pragma push_macro("STBI_REALLOC")
#undef STBI_REALLOC
#pragma push_macro("STBI_REALLOC_SIZED")
#undef STBI_REALLOC_SIZED
#pragma push_macro("STBI_SIMD_ALIGN")
#undef STBI_SIMD_ALIGN
#pragma push_macro("STBI_SSE2")
#undef STBI_SSE2
#pragma push_macro("STBI_SUPPORT_ZLIB")
#undef STBI_SUPPORT_ZLIB
#pragma push_macro("STBI_THREAD_LOCAL")
#undef STBI_THREAD_LOCAL
#pragma push_macro("STBI_VERSION")
#undef STBI_VERSION
#pragma push_macro("STBI_WINDOWS_UTF8")
#undef STBI_WINDOWS_UTF8
#pragma push_macro("STBI__BYTECAST")
#undef STBI__BYTECAST
#pragma push_macro("STBI__CASE")
#undef STBI__CASE
#pragma push_macro("STBI__COMBO")
#undef STBI__COMBO
#pragma push_macro("STBI__HAS_LROTL")
#undef STBI__HAS_LROTL
#pragma push_macro("STBI__HDR_BUFLEN")
#undef STBI__HDR_BUFLEN
#pragma push_macro("STBI__IDCT_1D")
#undef STBI__IDCT_1D
#pragma push_macro("STBI__MARKER_none")
#undef STBI__MARKER_none
#pragma push_macro("STBI__PNG_TYPE")
#undef STBI__PNG_TYPE
#pragma push_macro("STBI__RESTART")
#undef STBI__RESTART
#pragma push_macro("STBI__X64_TARGET")
#undef STBI__X64_TARGET
#pragma push_macro("STBI__X86_TARGET")
#undef STBI__X86_TARGET
#pragma push_macro("STBI__ZFAST_BITS")
#undef STBI__ZFAST_BITS
#pragma push_macro("STBI__ZFAST_MASK")
#undef STBI__ZFAST_MASK
#pragma push_macro("STBI__ZNSYMS")
#undef STBI__ZNSYMS
#pragma push_macro("STB_IMAGE_IMPLEMENTATION")
#undef STB_IMAGE_IMPLEMENTATION
#pragma push_macro("STB_IMAGE_STATIC")
#undef STB_IMAGE_STATIC
#pragma push_macro("stbi__DNL")
#undef stbi__DNL
#pragma push_macro("stbi__EOI")
#undef stbi__EOI
#pragma push_macro("stbi__SOF")
#undef stbi__SOF
#pragma push_macro("stbi__SOF_progressive")
#undef stbi__SOF_progressive
#pragma push_macro("stbi__SOI")
#undef stbi__SOI
#pragma push_macro("stbi__SOS")
#undef stbi__SOS
#pragma push_macro("stbi__de_iphone_flag")
#undef stbi__de_iphone_flag
#pragma push_macro("stbi__div16")
#undef stbi__div16
#pragma push_macro("stbi__div4")
#undef stbi__div4
#pragma push_macro("stbi__err")
#undef stbi__err
#pragma push_macro("stbi__errpf")
#undef stbi__errpf
#pragma push_macro("stbi__errpuc")
#undef stbi__errpuc
#pragma push_macro("stbi__f2f")
#undef stbi__f2f
#pragma push_macro("stbi__float2fixed")
#undef stbi__float2fixed
#pragma push_macro("stbi__float2int")
#undef stbi__float2int
#pragma push_macro("stbi__fsh")
#undef stbi__fsh
#pragma push_macro("stbi__unpremultiply_on_load")
#undef stbi__unpremultiply_on_load
#pragma push_macro("stbi__unpremultiply_on_load_thread")
#undef stbi__unpremultiply_on_load_thread
#pragma push_macro("stbi__vertically_flip_on_load")
#undef stbi__vertically_flip_on_load
#pragma push_macro("stbi_convert_iphone_png_to_rgb")
#undef stbi_convert_iphone_png_to_rgb
#pragma push_macro("stbi_convert_iphone_png_to_rgb_thread")
#undef stbi_convert_iphone_png_to_rgb_thread
#pragma push_macro("stbi_convert_wchar_to_utf8")
#undef stbi_convert_wchar_to_utf8
#pragma push_macro("stbi_failure_reason")
#undef stbi_failure_reason
#pragma push_macro("stbi_hdr_to_ldr_gamma")
#undef stbi_hdr_to_ldr_gamma
#pragma push_macro("stbi_hdr_to_ldr_scale")
#undef stbi_hdr_to_ldr_scale
#pragma push_macro("stbi_image_free")
#undef stbi_image_free
#pragma push_macro("stbi_info")
#undef stbi_info
#pragma push_macro("stbi_info_from_callbacks")
#undef stbi_info_from_callbacks
#pragma push_macro("stbi_info_from_file")
#undef stbi_info_from_file
#pragma push_macro("stbi_info_from_memory")
#undef stbi_info_from_memory
#pragma push_macro("stbi_inline")
#undef stbi_inline
#pragma push_macro("stbi_is_16_bit")
#undef stbi_is_16_bit
#pragma push_macro("stbi_is_16_bit_from_callbacks")
#undef stbi_is_16_bit_from_callbacks
#pragma push_macro("stbi_is_16_bit_from_file")
#undef stbi_is_16_bit_from_file
#pragma push_macro("stbi_is_16_bit_from_memory")
#undef stbi_is_16_bit_from_memory
#pragma push_macro("stbi_is_hdr")
#undef stbi_is_hdr
#pragma push_macro("stbi_is_hdr_from_callbacks")
#undef stbi_is_hdr_from_callbacks
#pragma push_macro("stbi_is_hdr_from_file")
#undef stbi_is_hdr_from_file
#pragma push_macro("stbi_is_hdr_from_memory")
#undef stbi_is_hdr_from_memory
#pragma push_macro("stbi_ldr_to_hdr_gamma")
#undef stbi_ldr_to_hdr_gamma
#pragma push_macro("stbi_ldr_to_hdr_scale")
#undef stbi_ldr_to_hdr_scale
#pragma push_macro("stbi_load")
#undef stbi_load
#pragma push_macro("stbi_load_16")
#undef stbi_load_16
#pragma push_macro("stbi_load_16_from_callbacks")
#undef stbi_load_16_from_callbacks
#pragma push_macro("stbi_load_16_from_memory")
#undef stbi_load_16_from_memory
#pragma push_macro("stbi_load_from_callbacks")
#undef stbi_load_from_callbacks
#pragma push_macro("stbi_load_from_file")
#undef stbi_load_from_file
#pragma push_macro("stbi_load_from_file_16")
#undef stbi_load_from_file_16
#pragma push_macro("stbi_load_from_memory")
#undef stbi_load_from_memory
#pragma push_macro("stbi_load_gif_from_memory")
#undef stbi_load_gif_from_memory
#pragma push_macro("stbi_loadf")
#undef stbi_loadf
#pragma push_macro("stbi_loadf_from_callbacks")
#undef stbi_loadf_from_callbacks
#pragma push_macro("stbi_loadf_from_file")
#undef stbi_loadf_from_file
#pragma push_macro("stbi_loadf_from_memory")
#undef stbi_loadf_from_memory
#pragma push_macro("stbi_lrot")
#undef stbi_lrot
#pragma push_macro("stbi_set_flip_vertically_on_load")
#undef stbi_set_flip_vertically_on_load
#pragma push_macro("stbi_set_flip_vertically_on_load_thread")
#undef stbi_set_flip_vertically_on_load_thread
#pragma push_macro("stbi_set_unpremultiply_on_load")
#undef stbi_set_unpremultiply_on_load
#pragma push_macro("stbi_set_unpremultiply_on_load_thread")
#undef stbi_set_unpremultiply_on_load_thread
#pragma push_macro("stbi_zlib_decode_buffer")
#undef stbi_zlib_decode_buffer
#pragma push_macro("stbi_zlib_decode_malloc")
#undef stbi_zlib_decode_malloc
#pragma push_macro("stbi_zlib_decode_malloc_guesssize")
#undef stbi_zlib_decode_malloc_guesssize
#pragma push_macro("stbi_zlib_decode_malloc_guesssize_headerflag")
#undef stbi_zlib_decode_malloc_guesssize_headerflag
#pragma push_macro("stbi_zlib_decode_noheader_buffer")
#undef stbi_zlib_decode_noheader_buffer
#pragma push_macro("stbi_zlib_decode_noheader_malloc")
#undef stbi_zlib_decode_noheader_malloc

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_NO_STDIO
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_NO_HDR
#define STBI_NO_LINEAR
#define STBI_MAX_DIMENSIONS (1 << 20)  // the area is bounded before anything is decoded
#define STBI_ASSERT(x) ((void)0)       // malformed files must end in an error, never in abort()
#define STBI_MALLOC(size) calloc(1, size)  // a JPEG may lack the tables it uses: before 2.28 they were read uninitialised
#define STBI_REALLOC(memory, size) realloc(memory, size)
#define STBI_FREE(memory) free(memory)

#define stbi__unpremultiply_on_load_thread duet_stbi__unpremultiply_on_load_thread
#define stbi_convert_iphone_png_to_rgb duet_stbi_convert_iphone_png_to_rgb
#define stbi_convert_iphone_png_to_rgb_thread duet_stbi_convert_iphone_png_to_rgb_thread
#define stbi_convert_wchar_to_utf8 duet_stbi_convert_wchar_to_utf8
#define stbi_failure_reason duet_stbi_failure_reason
#define stbi_hdr_to_ldr_gamma duet_stbi_hdr_to_ldr_gamma
#define stbi_hdr_to_ldr_scale duet_stbi_hdr_to_ldr_scale
#define stbi_image_free duet_stbi_image_free
#define stbi_info duet_stbi_info
#define stbi_info_from_callbacks duet_stbi_info_from_callbacks
#define stbi_info_from_file duet_stbi_info_from_file
#define stbi_info_from_memory duet_stbi_info_from_memory
#define stbi_is_16_bit duet_stbi_is_16_bit
#define stbi_is_16_bit_from_callbacks duet_stbi_is_16_bit_from_callbacks
#define stbi_is_16_bit_from_file duet_stbi_is_16_bit_from_file
#define stbi_is_16_bit_from_memory duet_stbi_is_16_bit_from_memory
#define stbi_is_hdr duet_stbi_is_hdr
#define stbi_is_hdr_from_callbacks duet_stbi_is_hdr_from_callbacks
#define stbi_is_hdr_from_file duet_stbi_is_hdr_from_file
#define stbi_is_hdr_from_memory duet_stbi_is_hdr_from_memory
#define stbi_ldr_to_hdr_gamma duet_stbi_ldr_to_hdr_gamma
#define stbi_ldr_to_hdr_scale duet_stbi_ldr_to_hdr_scale
#define stbi_load duet_stbi_load
#define stbi_load_16 duet_stbi_load_16
#define stbi_load_16_from_callbacks duet_stbi_load_16_from_callbacks
#define stbi_load_16_from_memory duet_stbi_load_16_from_memory
#define stbi_load_from_callbacks duet_stbi_load_from_callbacks
#define stbi_load_from_file duet_stbi_load_from_file
#define stbi_load_from_file_16 duet_stbi_load_from_file_16
#define stbi_load_from_memory duet_stbi_load_from_memory
#define stbi_load_gif_from_memory duet_stbi_load_gif_from_memory
#define stbi_loadf duet_stbi_loadf
#define stbi_loadf_from_callbacks duet_stbi_loadf_from_callbacks
#define stbi_loadf_from_file duet_stbi_loadf_from_file
#define stbi_loadf_from_memory duet_stbi_loadf_from_memory
#define stbi_set_flip_vertically_on_load duet_stbi_set_flip_vertically_on_load
#define stbi_set_flip_vertically_on_load_thread duet_stbi_set_flip_vertically_on_load_thread
#define stbi_set_unpremultiply_on_load duet_stbi_set_unpremultiply_on_load
#define stbi_set_unpremultiply_on_load_thread duet_stbi_set_unpremultiply_on_load_thread
#define stbi_zlib_decode_buffer duet_stbi_zlib_decode_buffer
#define stbi_zlib_decode_malloc duet_stbi_zlib_decode_malloc
#define stbi_zlib_decode_malloc_guesssize duet_stbi_zlib_decode_malloc_guesssize
#define stbi_zlib_decode_malloc_guesssize_headerflag duet_stbi_zlib_decode_malloc_guesssize_headerflag
#define stbi_zlib_decode_noheader_buffer duet_stbi_zlib_decode_noheader_buffer
#define stbi_zlib_decode_noheader_malloc duet_stbi_zlib_decode_noheader_malloc

#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Weverything"
#elif defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wcast-qual"
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wuseless-cast"
#pragma GCC diagnostic ignored "-Wduplicated-branches"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wimplicit-fallthrough"
#endif

namespace duet::stb {
// stb copies nothing to nowhere (a PNG whose first IDAT chunk is empty), which C's memcpy does not allow.
static inline void* memcpy(void* to, const void* from, size_t size) { return size == 0 ? to : ::memcpy(to, from, size); }
#include <stb_image.h>
}  // namespace duet::stb

// Everything as it was.
#undef STBIDEF
#pragma pop_macro("STBIDEF")
#undef STBI_ASSERT
#pragma pop_macro("STBI_ASSERT")
#undef STBI_EXTERN
#pragma pop_macro("STBI_EXTERN")
#undef STBI_FAILURE_USERMSG
#pragma pop_macro("STBI_FAILURE_USERMSG")
#undef STBI_FREE
#pragma pop_macro("STBI_FREE")
#undef STBI_HAS_LROTL
#pragma pop_macro("STBI_HAS_LROTL")
#undef STBI_INCLUDE_STB_IMAGE_H
#pragma pop_macro("STBI_INCLUDE_STB_IMAGE_H")
#undef STBI_MALLOC
#pragma pop_macro("STBI_MALLOC")
#undef STBI_MAX_DIMENSIONS
#pragma pop_macro("STBI_MAX_DIMENSIONS")
#undef STBI_NEON
#pragma pop_macro("STBI_NEON")
#undef STBI_NOTUSED
#pragma pop_macro("STBI_NOTUSED")
#undef STBI_NO_BMP
#pragma pop_macro("STBI_NO_BMP")
#undef STBI_NO_FAILURE_STRINGS
#pragma pop_macro("STBI_NO_FAILURE_STRINGS")
#undef STBI_NO_GIF
#pragma pop_macro("STBI_NO_GIF")
#undef STBI_NO_HDR
#pragma pop_macro("STBI_NO_HDR")
#undef STBI_NO_JPEG
#pragma pop_macro("STBI_NO_JPEG")
#undef STBI_NO_LINEAR
#pragma pop_macro("STBI_NO_LINEAR")
#undef STBI_NO_PIC
#pragma pop_macro("STBI_NO_PIC")
#undef STBI_NO_PNG
#pragma pop_macro("STBI_NO_PNG")
#undef STBI_NO_PNM
#pragma pop_macro("STBI_NO_PNM")
#undef STBI_NO_PSD
#pragma pop_macro("STBI_NO_PSD")
#undef STBI_NO_SIMD
#pragma pop_macro("STBI_NO_SIMD")
#undef STBI_NO_STDIO
#pragma pop_macro("STBI_NO_STDIO")
#undef STBI_NO_TGA
#pragma pop_macro("STBI_NO_TGA")
#undef STBI_NO_THREAD_LOCALS
#pragma pop_macro("STBI_NO_THREAD_LOCALS")
#undef STBI_NO_ZLIB
#pragma pop_macro("STBI_NO_ZLIB")
#undef STBI_ONLY_BMP
#pragma pop_macro("STBI_ONLY_BMP")
#undef STBI_ONLY_GIF
#pragma pop_macro("STBI_ONLY_GIF")
#undef STBI_ONLY_HDR
#pragma pop_macro("STBI_ONLY_HDR")
#undef STBI_ONLY_JPEG
#pragma pop_macro("STBI_ONLY_JPEG")
#undef STBI_ONLY_PIC
#pragma pop_macro("STBI_ONLY_PIC")
#undef STBI_ONLY_PNG
#pragma pop_macro("STBI_ONLY_PNG")
#undef STBI_ONLY_PNM
#pragma pop_macro("STBI_ONLY_PNM")
#undef STBI_ONLY_PSD
#pragma pop_macro("STBI_ONLY_PSD")
#undef STBI_ONLY_TGA
#pragma pop_macro("STBI_ONLY_TGA")
#undef STBI_REALLOC
#pragma pop_macro("STBI_REALLOC")
#undef STBI_REALLOC_SIZED
#pragma pop_macro("STBI_REALLOC_SIZED")
#undef STBI_SIMD_ALIGN
#pragma pop_macro("STBI_SIMD_ALIGN")
#undef STBI_SSE2
#pragma pop_macro("STBI_SSE2")
#undef STBI_SUPPORT_ZLIB
#pragma pop_macro("STBI_SUPPORT_ZLIB")
#undef STBI_THREAD_LOCAL
#pragma pop_macro("STBI_THREAD_LOCAL")
#undef STBI_VERSION
#pragma pop_macro("STBI_VERSION")
#undef STBI_WINDOWS_UTF8
#pragma pop_macro("STBI_WINDOWS_UTF8")
#undef STBI__BYTECAST
#pragma pop_macro("STBI__BYTECAST")
#undef STBI__CASE
#pragma pop_macro("STBI__CASE")
#undef STBI__COMBO
#pragma pop_macro("STBI__COMBO")
#undef STBI__HAS_LROTL
#pragma pop_macro("STBI__HAS_LROTL")
#undef STBI__HDR_BUFLEN
#pragma pop_macro("STBI__HDR_BUFLEN")
#undef STBI__IDCT_1D
#pragma pop_macro("STBI__IDCT_1D")
#undef STBI__MARKER_none
#pragma pop_macro("STBI__MARKER_none")
#undef STBI__PNG_TYPE
#pragma pop_macro("STBI__PNG_TYPE")
#undef STBI__RESTART
#pragma pop_macro("STBI__RESTART")
#undef STBI__X64_TARGET
#pragma pop_macro("STBI__X64_TARGET")
#undef STBI__X86_TARGET
#pragma pop_macro("STBI__X86_TARGET")
#undef STBI__ZFAST_BITS
#pragma pop_macro("STBI__ZFAST_BITS")
#undef STBI__ZFAST_MASK
#pragma pop_macro("STBI__ZFAST_MASK")
#undef STBI__ZNSYMS
#pragma pop_macro("STBI__ZNSYMS")
#undef STB_IMAGE_IMPLEMENTATION
#pragma pop_macro("STB_IMAGE_IMPLEMENTATION")
#undef STB_IMAGE_STATIC
#pragma pop_macro("STB_IMAGE_STATIC")
#undef stbi__DNL
#pragma pop_macro("stbi__DNL")
#undef stbi__EOI
#pragma pop_macro("stbi__EOI")
#undef stbi__SOF
#pragma pop_macro("stbi__SOF")
#undef stbi__SOF_progressive
#pragma pop_macro("stbi__SOF_progressive")
#undef stbi__SOI
#pragma pop_macro("stbi__SOI")
#undef stbi__SOS
#pragma pop_macro("stbi__SOS")
#undef stbi__de_iphone_flag
#pragma pop_macro("stbi__de_iphone_flag")
#undef stbi__div16
#pragma pop_macro("stbi__div16")
#undef stbi__div4
#pragma pop_macro("stbi__div4")
#undef stbi__err
#pragma pop_macro("stbi__err")
#undef stbi__errpf
#pragma pop_macro("stbi__errpf")
#undef stbi__errpuc
#pragma pop_macro("stbi__errpuc")
#undef stbi__f2f
#pragma pop_macro("stbi__f2f")
#undef stbi__float2fixed
#pragma pop_macro("stbi__float2fixed")
#undef stbi__float2int
#pragma pop_macro("stbi__float2int")
#undef stbi__fsh
#pragma pop_macro("stbi__fsh")
#undef stbi__unpremultiply_on_load
#pragma pop_macro("stbi__unpremultiply_on_load")
#undef stbi__unpremultiply_on_load_thread
#pragma pop_macro("stbi__unpremultiply_on_load_thread")
#undef stbi__vertically_flip_on_load
#pragma pop_macro("stbi__vertically_flip_on_load")
#undef stbi_convert_iphone_png_to_rgb
#pragma pop_macro("stbi_convert_iphone_png_to_rgb")
#undef stbi_convert_iphone_png_to_rgb_thread
#pragma pop_macro("stbi_convert_iphone_png_to_rgb_thread")
#undef stbi_convert_wchar_to_utf8
#pragma pop_macro("stbi_convert_wchar_to_utf8")
#undef stbi_failure_reason
#pragma pop_macro("stbi_failure_reason")
#undef stbi_hdr_to_ldr_gamma
#pragma pop_macro("stbi_hdr_to_ldr_gamma")
#undef stbi_hdr_to_ldr_scale
#pragma pop_macro("stbi_hdr_to_ldr_scale")
#undef stbi_image_free
#pragma pop_macro("stbi_image_free")
#undef stbi_info
#pragma pop_macro("stbi_info")
#undef stbi_info_from_callbacks
#pragma pop_macro("stbi_info_from_callbacks")
#undef stbi_info_from_file
#pragma pop_macro("stbi_info_from_file")
#undef stbi_info_from_memory
#pragma pop_macro("stbi_info_from_memory")
#undef stbi_inline
#pragma pop_macro("stbi_inline")
#undef stbi_is_16_bit
#pragma pop_macro("stbi_is_16_bit")
#undef stbi_is_16_bit_from_callbacks
#pragma pop_macro("stbi_is_16_bit_from_callbacks")
#undef stbi_is_16_bit_from_file
#pragma pop_macro("stbi_is_16_bit_from_file")
#undef stbi_is_16_bit_from_memory
#pragma pop_macro("stbi_is_16_bit_from_memory")
#undef stbi_is_hdr
#pragma pop_macro("stbi_is_hdr")
#undef stbi_is_hdr_from_callbacks
#pragma pop_macro("stbi_is_hdr_from_callbacks")
#undef stbi_is_hdr_from_file
#pragma pop_macro("stbi_is_hdr_from_file")
#undef stbi_is_hdr_from_memory
#pragma pop_macro("stbi_is_hdr_from_memory")
#undef stbi_ldr_to_hdr_gamma
#pragma pop_macro("stbi_ldr_to_hdr_gamma")
#undef stbi_ldr_to_hdr_scale
#pragma pop_macro("stbi_ldr_to_hdr_scale")
#undef stbi_load
#pragma pop_macro("stbi_load")
#undef stbi_load_16
#pragma pop_macro("stbi_load_16")
#undef stbi_load_16_from_callbacks
#pragma pop_macro("stbi_load_16_from_callbacks")
#undef stbi_load_16_from_memory
#pragma pop_macro("stbi_load_16_from_memory")
#undef stbi_load_from_callbacks
#pragma pop_macro("stbi_load_from_callbacks")
#undef stbi_load_from_file
#pragma pop_macro("stbi_load_from_file")
#undef stbi_load_from_file_16
#pragma pop_macro("stbi_load_from_file_16")
#undef stbi_load_from_memory
#pragma pop_macro("stbi_load_from_memory")
#undef stbi_load_gif_from_memory
#pragma pop_macro("stbi_load_gif_from_memory")
#undef stbi_loadf
#pragma pop_macro("stbi_loadf")
#undef stbi_loadf_from_callbacks
#pragma pop_macro("stbi_loadf_from_callbacks")
#undef stbi_loadf_from_file
#pragma pop_macro("stbi_loadf_from_file")
#undef stbi_loadf_from_memory
#pragma pop_macro("stbi_loadf_from_memory")
#undef stbi_lrot
#pragma pop_macro("stbi_lrot")
#undef stbi_set_flip_vertically_on_load
#pragma pop_macro("stbi_set_flip_vertically_on_load")
#undef stbi_set_flip_vertically_on_load_thread
#pragma pop_macro("stbi_set_flip_vertically_on_load_thread")
#undef stbi_set_unpremultiply_on_load
#pragma pop_macro("stbi_set_unpremultiply_on_load")
#undef stbi_set_unpremultiply_on_load_thread
#pragma pop_macro("stbi_set_unpremultiply_on_load_thread")
#undef stbi_zlib_decode_buffer
#pragma pop_macro("stbi_zlib_decode_buffer")
#undef stbi_zlib_decode_malloc
#pragma pop_macro("stbi_zlib_decode_malloc")
#undef stbi_zlib_decode_malloc_guesssize
#pragma pop_macro("stbi_zlib_decode_malloc_guesssize")
#undef stbi_zlib_decode_malloc_guesssize_headerflag
#pragma pop_macro("stbi_zlib_decode_malloc_guesssize_headerflag")
#undef stbi_zlib_decode_noheader_buffer
#pragma pop_macro("stbi_zlib_decode_noheader_buffer")
#undef stbi_zlib_decode_noheader_malloc
#pragma pop_macro("stbi_zlib_decode_noheader_malloc")

namespace duet::stb {

static constexpr auto load_from_memory = &duet_stbi_load_from_memory;
static constexpr auto load_16_from_memory = &duet_stbi_load_16_from_memory;
static constexpr auto info_from_memory = &duet_stbi_info_from_memory;
static constexpr auto is_16_bit_from_memory = &duet_stbi_is_16_bit_from_memory;
static constexpr auto image_free = &duet_stbi_image_free;
static constexpr auto failure_reason = &duet_stbi_failure_reason;

}  // namespace duet::stb

#if defined(__clang__)
#pragma clang diagnostic pop
#elif defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
