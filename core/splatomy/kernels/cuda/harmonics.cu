// Colours by real spherical harmonics up to degree 3: the harmonics and the gradients by the direction of
// ``spherical_harmonics.basis``. One thread a Gaussian.

#define ROOMS 16

// The harmonics of a unit direction, and their gradients.
__device__ inline void harmonics_of(float x, float y, float z, int degree, float out[ROOMS], float d[ROOMS][3]) {
  const float c1 = 0.48860251190291992f, c20 = 1.0925484305920792f, c21 = 0.31539156525252005f;
  const float c22 = 0.54627421529603959f, c30 = 0.59004358992664352f, c31 = 2.8906114426405538f;
  const float c32 = 0.45704579946446577f, c33 = 0.3731763325901154f, c34 = 1.4453057213202769f;
  for (int k = 0; k < ROOMS; ++k) out[k] = d[k][0] = d[k][1] = d[k][2] = 0.0f;
  out[0] = 0.28209479177387814f;
  if (degree > 0) {
    out[1] = -c1 * y, out[2] = c1 * z, out[3] = -c1 * x;
    d[1][1] = -c1, d[2][2] = c1, d[3][0] = -c1;
  }
  if (degree > 1) {
    out[4] = c20 * x * y, d[4][0] = c20 * y, d[4][1] = c20 * x;
    out[5] = -c20 * y * z, d[5][1] = -c20 * z, d[5][2] = -c20 * y;
    out[6] = c21 * (3 * z * z - 1), d[6][2] = c21 * 6 * z;
    out[7] = -c20 * x * z, d[7][0] = -c20 * z, d[7][2] = -c20 * x;
    out[8] = c22 * (x * x - y * y), d[8][0] = c22 * 2 * x, d[8][1] = -c22 * 2 * y;
  }
  if (degree > 2) {
    out[9] = -c30 * y * (3 * x * x - y * y), d[9][0] = -c30 * 6 * x * y, d[9][1] = -c30 * 3 * (x * x - y * y);
    out[10] = c31 * x * y * z, d[10][0] = c31 * y * z, d[10][1] = c31 * x * z, d[10][2] = c31 * x * y;
    out[11] = -c32 * y * (5 * z * z - 1), d[11][1] = -c32 * (5 * z * z - 1), d[11][2] = -c32 * 10 * y * z;
    out[12] = c33 * z * (5 * z * z - 3), d[12][2] = c33 * (15 * z * z - 3);
    out[13] = -c32 * x * (5 * z * z - 1), d[13][0] = -c32 * (5 * z * z - 1), d[13][2] = -c32 * 10 * x * z;
    out[14] = c34 * z * (x * x - y * y), d[14][0] = c34 * 2 * x * z, d[14][1] = -c34 * 2 * y * z;
    d[14][2] = c34 * (x * x - y * y);
    out[15] = -c30 * x * (x * x - 3 * y * y), d[15][0] = -c30 * 3 * (x * x - y * y), d[15][1] = c30 * 6 * x * y;
  }
}

// The unit direction, z for a zero vector, and 1 / length, 0 for a zero vector.
__device__ inline float unit_of(const float* direction, float& x, float& y, float& z) {
  float length = sqrtf(direction[0] * direction[0] + direction[1] * direction[1] + direction[2] * direction[2]);
  float scale = length > 0.0f ? 1.0f / length : 0.0f;
  x = direction[0] * scale, y = direction[1] * scale, z = length > 0.0f ? direction[2] * scale : 1.0f;
  return scale;
}

#define BLOCK 128
#define STAGED 48

// The place of a thread's coefficients in shared memory, with one float between two Gaussians' so that a warp's
// threads meet different banks; those of a block are copied there in their own order, or back.
__device__ inline float* staged(float* stage, int each) { return stage + threadIdx.x * (each + 1); }

__device__ inline void copy_in(float* stage, const float* global, int num, int each) {
  long long first = (long long)blockIdx.x * BLOCK * each;
  int count = min(BLOCK, num - (int)blockIdx.x * BLOCK) * each;
  for (int k = threadIdx.x; k < count; k += BLOCK) stage[k / each * (each + 1) + k % each] = global[first + k];
  __syncthreads();
}

__device__ inline void copy_out(const float* stage, float* global, int num, int each) {
  long long first = (long long)blockIdx.x * BLOCK * each;
  int count = min(BLOCK, num - (int)blockIdx.x * BLOCK) * each;
  __syncthreads();
  for (int k = threadIdx.x; k < count; k += BLOCK) global[first + k] = stage[k / each * (each + 1) + k % each];
}

// coefficients: (N, rows, channels); colours: (N, channels), max(0, 0.5 + the sum).
extern "C" __global__ void __launch_bounds__(BLOCK) shade(
    const float* coefficients, const float* directions, int num, int rows, int channels, int degree, float* colours) {
  __shared__ float stage[BLOCK * (STAGED + 1)];
  int n = blockIdx.x * BLOCK + threadIdx.x, each = rows * channels, count = (degree + 1) * (degree + 1);
  if (each <= STAGED) copy_in(stage, coefficients, num, each);
  if (n >= num) return;
  float x, y, z, basis[ROOMS], slopes[ROOMS][3];
  unit_of(directions + 3 * n, x, y, z);
  harmonics_of(x, y, z, degree, basis, slopes);
  const float* own = each <= STAGED ? staged(stage, each) : coefficients + (long long)n * each;
  for (int c = 0; c < channels; ++c) {
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < ROOMS; ++k)
      if (k < count) sum += basis[k] * own[k * channels + c];
    colours[(long long)n * channels + c] = fmaxf(sum + 0.5f, 0.0f);
  }
}

// Overwrites one Gaussian's coefficients ``own`` by their gradients ``d_own``, which may be the same place.
__device__ inline void unshade_one(const float* own, float* d_own, const float* direction, const float* d_colour,
                                   int rows, int channels, int degree, float* d_direction) {
  float x, y, z, basis[ROOMS], slopes[ROOMS][3], d_unit[3] = {0.0f, 0.0f, 0.0f};
  float scale = unit_of(direction, x, y, z);
  harmonics_of(x, y, z, degree, basis, slopes);
  int count = (degree + 1) * (degree + 1);
  for (int c = 0; c < channels; ++c) {
    float sum = 0.0f, given = d_colour[c];
#pragma unroll
    for (int k = 0; k < ROOMS; ++k)
      if (k < count) sum += basis[k] * own[k * channels + c];
    if (!(sum + 0.5f >= 0.0f)) given = 0.0f;
#pragma unroll
    for (int k = 0; k < ROOMS; ++k) {
      if (k >= count) break;
      float worth = given * own[k * channels + c];
      d_own[k * channels + c] = given * basis[k];
      for (int i = 0; i < 3; ++i) d_unit[i] += worth * slopes[k][i];
    }
    for (int k = count; k < rows; ++k) d_own[k * channels + c] = 0.0f;
  }
  // The unit direction changes only across itself.
  float along = d_unit[0] * x + d_unit[1] * y + d_unit[2] * z;
  d_direction[0] = (d_unit[0] - along * x) * scale;
  d_direction[1] = (d_unit[1] - along * y) * scale;
  d_direction[2] = (d_unit[2] - along * z) * scale;
}

extern "C" __global__ void __launch_bounds__(BLOCK) unshade(
    const float* coefficients, const float* directions, int num, int rows, int channels, int degree,
    const float* d_colours, float* d_coefficients, float* d_directions) {
  __shared__ float stage[BLOCK * (STAGED + 1)];
  int n = blockIdx.x * BLOCK + threadIdx.x, each = rows * channels;
  if (each <= STAGED) copy_in(stage, coefficients, num, each);
  if (n < num) {
    const float* own = each <= STAGED ? staged(stage, each) : coefficients + (long long)n * each;
    float* d_own = each <= STAGED ? staged(stage, each) : d_coefficients + (long long)n * each;
    unshade_one(own, d_own, directions + 3 * n, d_colours + (long long)n * channels, rows, channels, degree,
                d_directions + 3 * n);
  }
  if (each <= STAGED) copy_out(stage, d_coefficients, num, each);
}
