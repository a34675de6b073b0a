#pragma once
#include <duet/duet.hpp>
#include <vector>

// Made in one unit, used and destroyed in the other, both ways.
duet::Matrix matrix_from_b(duet::Index rows);
double sum_in_b(duet::Matrix matrix);
duet::Image image_from_b(const char* path);
double kernel_sum_in_b(duet::ConstMatrixView x);
