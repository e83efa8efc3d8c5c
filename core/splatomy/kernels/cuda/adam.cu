// One step of Adam on plain numbers; see ``_gpu_adam``. One thread a number.

// The logarithms of the moments' decay, 0.9 and 0.999.
#define LOG_BETA_1 -0.10536051565782628f
#define LOG_BETA_2 -0.0010005003335835335f
#define EPSILON 1e-15f

extern "C" __global__ void __launch_bounds__(256) move_adam(
    float* values, const float* gradients, float* first, float* second, const float* steps, const float* rate,
    int count) {
  int k = blockIdx.x * blockDim.x + threadIdx.x;
  if (k >= count) return;
  float gradient = gradients[k];
  float mean = 0.9f * first[k] + 0.1f * gradient;
  float square = 0.999f * second[k] + 0.001f * gradient * gradient;
  first[k] = mean, second[k] = square;
  // Both moments start at zero: 1 - beta^steps of each is known.
  float known_1 = -expm1f(*steps * LOG_BETA_1), known_2 = -expm1f(*steps * LOG_BETA_2);
  values[k] -= *rate / known_1 * mean / (sqrtf(square) / sqrtf(known_2) + EPSILON);
}
