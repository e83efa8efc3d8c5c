// The terms of an X-ray training's loss, each with its gradient in one pass; see ``_gpu_objective``.

#define BLOCK 256

// Adds up a block's values; its sum goes to ``sums[blockIdx.x]``, so that their order is always the same.
__device__ inline void add_up(float value, float* sums) {
  __shared__ double warps[BLOCK / WARP];
  double sum = sum_warp(value);
  if (threadIdx.x % WARP == 0) warps[threadIdx.x / WARP] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  sum = 0.0;
  for (int k = 0; k < BLOCK / WARP; ++k) sum += warps[k];
  sums[blockIdx.x] = (float)sum;
}

// One thread a pixel: pseudo-Huber of the weighted residual in its noise, and the total of the image itself.
extern "C" __global__ void __launch_bounds__(BLOCK) compare_pixels(
    const float* image, const float* wanted, const float* noise, const float* weight, int count, float knee,
    float robust, float sparsity, float* gradient, float* sums) {
  int k = blockIdx.x * BLOCK + threadIdx.x;
  float loss = 0.0f;
  if (k < count) {
    float unit = 1.0f / (knee * noise[k]), scaled = (image[k] - wanted[k]) * weight[k] * unit;
    float square = scaled * scaled, root = sqrtf(1.0f + square);
    // root - 1 without the loss of digits where the residual is small.
    loss = robust * knee * knee * square / (root + 1.0f) + sparsity * image[k] / noise[k];
    gradient[k] = robust * knee * knee * scaled / root * unit * weight[k] + sparsity / noise[k];
  }
  add_up(loss, sums);
}

// One thread a number of the curves (rows of ``size``): squared second differences along a curve, and the
// distance from the same number of another curve, one for each. The gradient starts at zero.
extern "C" __global__ void __launch_bounds__(BLOCK) relate_curves(
    const float* curves, const long long* others, int count, int size, float rough, float kin, float same,
    float* gradient, float* sums) {
  int k = blockIdx.x * BLOCK + threadIdx.x;
  float loss = 0.0f;
  if (k < count) {
    int row = k / size, at = k % size;
    const float* own = curves + (long long)row * size;
    float slope = 0.0f;
    for (int first = at > 2 ? at - 2 : 0; first <= at && first + 2 < size; ++first) {
      float bend = own[first + 2] - 2.0f * own[first + 1] + own[first];
      slope += 2.0f * rough * bend * (first + 1 == at ? -2.0f : 1.0f);
      if (first == at) loss += rough * bend * bend;
    }
    if (kin > 0.0f) {
      long long other = others[row] * size + at;
      float apart = own[at] - curves[other], root = sqrtf(apart * apart + same * same);
      loss += kin * root;
      slope += kin * apart / root;
      atomicAdd(gradient + other, -kin * apart / root);
    }
    atomicAdd(gradient + k, slope);
  }
  add_up(loss, sums);
}
