// The host's own stb_image, whole, with external linkage.
#define STB_IMAGE_IMPLEMENTATION
#include <stb_image.h>
