// Parts that all programs share. The limits (MAX_MEAN_MM ...) and the lattices are defined by the host code, so
// that they stand in one place for all backends.

typedef unsigned long long u64;

#define WARP 32
#define ALL_LANES 0xffffffffu
#define PI 3.14159265358979323846
#define HALF_LOG2_E 0.72134752044448170368

// Whether one Gaussian's parameters lie inside the limits; every comparison is false for NaN.
__device__ inline bool is_usable(const float* mean, const float* quat, const float* scale, int num_scales) {
  double norm2 = 0.0;
  for (int k = 0; k < 4; ++k) norm2 += (double)quat[k] * (double)quat[k];
  double norm = sqrt(norm2);
  bool good = norm >= MIN_QUAT_NORM && norm <= MAX_QUAT_NORM;
  for (int k = 0; k < 3; ++k) good = good && fabs((double)mean[k]) <= MAX_MEAN_MM;
  for (int k = 0; k < num_scales; ++k)
    good = good && (double)scale[k] >= MIN_SCALE_MM && (double)scale[k] <= MAX_SCALE_MM;
  return good;
}

// The rotation matrix of a quaternion, normalised here.
__device__ inline void rotation_of(const float* quat, double r[3][3]) {
  double w = quat[0], x = quat[1], y = quat[2], z = quat[3];
  double scale = 1.0 / sqrt(w * w + x * x + y * y + z * z);
  w *= scale, x *= scale, y *= scale, z *= scale;
  r[0][0] = 1 - 2 * (y * y + z * z), r[0][1] = 2 * (x * y - w * z), r[0][2] = 2 * (x * z + w * y);
  r[1][0] = 2 * (x * y + w * z), r[1][1] = 1 - 2 * (x * x + z * z), r[1][2] = 2 * (y * z - w * x);
  r[2][0] = 2 * (x * z - w * y), r[2][1] = 2 * (y * z + w * x), r[2][2] = 1 - 2 * (x * x + y * y);
}

// Gradient of an unnormalised quaternion from that of its rotation matrix.
__device__ inline void rotation_backward(const float* quat, const double d[3][3], float* out) {
  double w = quat[0], x = quat[1], y = quat[2], z = quat[3];
  double scale = 1.0 / sqrt(w * w + x * x + y * y + z * z);
  w *= scale, x *= scale, y *= scale, z *= scale;
  double s01 = d[0][1] + d[1][0], s02 = d[0][2] + d[2][0], s12 = d[1][2] + d[2][1];
  double a21 = d[2][1] - d[1][2], a02 = d[0][2] - d[2][0], a10 = d[1][0] - d[0][1];
  double gw = 2 * (x * a21 + y * a02 + z * a10);
  double gx = 2 * (y * s01 + z * s02 + w * a21 - 2 * x * (d[1][1] + d[2][2]));
  double gy = 2 * (x * s01 + z * s12 + w * a02 - 2 * y * (d[0][0] + d[2][2]));
  double gz = 2 * (x * s02 + y * s12 + w * a10 - 2 * z * (d[0][0] + d[1][1]));
  double along = gw * w + gx * x + gy * y + gz * z;
  out[0] = (float)((gw - along * w) * scale), out[1] = (float)((gx - along * x) * scale);
  out[2] = (float)((gy - along * y) * scale), out[3] = (float)((gz - along * z) * scale);
}

// First integer and one past the last in [low, high] and in [0, size); clipped before the conversion.
__device__ inline void clip_range(double low, double high, int size, int& first, int& end) {
  first = (int)fmax(0.0, fmin((double)size, ceil(low)));
  end = (int)fmax(0.0, fmin((double)size, floor(high) + 1.0));
}

// Sums eight values over a warp; lane l returns the sum of values[l / 4] in a fixed order.
__device__ inline float sum_eight(float values[8], int lane) {
  bool upper = lane & 16;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    float send = upper ? values[k] : values[k + 4], keep = upper ? values[k + 4] : values[k];
    values[k] = keep + __shfl_xor_sync(ALL_LANES, send, 16);
  }
  upper = lane & 8;
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    float send = upper ? values[k] : values[k + 2], keep = upper ? values[k + 2] : values[k];
    values[k] = keep + __shfl_xor_sync(ALL_LANES, send, 8);
  }
  upper = lane & 4;
  float send = upper ? values[0] : values[1], sum = upper ? values[1] : values[0];
  sum += __shfl_xor_sync(ALL_LANES, send, 4);
  sum += __shfl_xor_sync(ALL_LANES, sum, 2);
  return sum + __shfl_xor_sync(ALL_LANES, sum, 1);
}

// Sum of a double over a warp, in a fixed order.
__device__ inline double sum_warp(double value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(ALL_LANES, value, step);
  return value;
}
