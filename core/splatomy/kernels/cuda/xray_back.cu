// The way back from the image to the parameters and the camera; continues xray.cu.

// Adds the moments w g (1, dx, dy, dx^2, dx dy, dy^2) of one box, w of unit weight, over blocks of 8 x 8 pixels;
// ``part`` of ``parts`` warps takes every parts-th block of columns. A lane has a column and two rows of a block,
// and reads those of the next before it uses them, so that a warp does not wait for each.
__device__ inline void gather(const float* gradient, int width, float4 first, float sharp, Box box, int lane,
                              int part, int parts, float moments[8]) {
  int row = lane / 8;
  for (int left = box.x0 + 8 * part; left < box.x1; left += 8 * parts) {
    int x = left + lane % 8;
    bool inside = x < box.x1;
    float dx = first.x + (float)(x - box.x0), dy = first.y + (float)row, sums[3] = {0.0f, 0.0f, 0.0f};
    const float* pixel = gradient + (long long)(box.y0 + row) * width + x;
    float upper = inside && box.y0 + row < box.y1 ? pixel[0] : 0.0f;
    float lower = inside && box.y0 + row + 4 < box.y1 ? pixel[4 * width] : 0.0f;
    for (int y = box.y0 + row; y - row < box.y1; y += 8) {
      pixel += 8 * width;
      float next_upper = inside && y + 8 < box.y1 ? pixel[0] : 0.0f;
      float next_lower = inside && y + 12 < box.y1 ? pixel[4 * width] : 0.0f;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float t = dx - first.w * dy;
        float value = exp2f(first.z * t * t + sharp * dy * dy) * (half ? lower : upper), along = value * dy;
        sums[0] += value, sums[1] += along, sums[2] += along * dy;
        dy += 4.0f;
      }
      upper = next_upper, lower = next_lower;
    }
    moments[0] += sums[0], moments[1] += sums[0] * dx, moments[2] += sums[1];
    moments[3] += sums[0] * dx * dx, moments[4] += sums[1] * dx, moments[5] += sums[2];
  }
}

// Six moments of the image gradient under each footprint, (records, 8): one warp a Gaussian, and a block of
// them for a large one. Nothing is added by two threads, so there are no atomics and no order to fix.
extern "C" __global__ void __launch_bounds__(128) gather_xray(
    const float4* records, int num_records, int num, int width, int height, const float* gradients,
    float* moments) {
  __shared__ float parts[4][8];
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, at = blockIdx.x * 4 + warp;
  Box box = {0, 0, 0, 0};
  if (at < num_records) box = box_of(records[2 * at + 1]);
  int area = (box.x1 - box.x0) * (box.y1 - box.y0);
  if (area > 0 && area <= LARGE_BOX) {
    float sums[8] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    const float* gradient = gradients + (long long)(at / num) * width * height;
    gather(gradient, width, records[2 * at], records[2 * at + 1].x, box, lane, 0, 1, sums);
    float sum = sum_eight(sums, lane);
    if (lane % 4 == 0) moments[8ll * at + lane / 4] = sum;
  }
  for (int other = 0; other < 4; ++other) {
    at = blockIdx.x * 4 + other;
    if (at >= num_records) return;
    float4 second = records[2 * at + 1];
    box = box_of(second);
    if ((box.x1 - box.x0) * (box.y1 - box.y0) <= LARGE_BOX) continue;
    float sums[8] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    const float* gradient = gradients + (long long)(at / num) * width * height;
    gather(gradient, width, records[2 * at], second.x, box, lane, warp, 4, sums);
    float sum = sum_eight(sums, lane);
    if (lane % 4 == 0) parts[warp][lane / 4] = sum;
    __syncthreads();
    if (threadIdx.x < 8)
      moments[8ll * at + threadIdx.x] = parts[0][threadIdx.x] + parts[1][threadIdx.x] +
                                        parts[2][threadIdx.x] + parts[3][threadIdx.x];
    __syncthreads();
  }
}

struct Gradient {
  double mean[3], scale[3], rotation[3][3];
};

// Adds the gradients of one Gaussian in one view, and sets those of the camera: 3 x 4 of the pose, then fx,
// skew, cx, fy, cy. With P the inverse covariance and M the second moments, dL/dC2 = amplitude P M P / 2.
__device__ inline void chain(const float* moments, double amplitude, const float* mean, const float* scale,
                             const double* k, const double* pose, double cell, const View& w, Gradient& out,
                             double& d_u, double& d_v, double* camera) {
  double a = w.yy / w.determinant, b = -w.xy / w.determinant, c = w.xx / w.determinant;
  double log_peak = amplitude * moments[0], share = cell > 0 ? log_peak : 0.0;
  double mx = moments[1], my = moments[2], mxx = moments[3], mxy = moments[4], myy = moments[5];
  d_u = amplitude * (a * mx + b * my), d_v = amplitude * (b * mx + c * my);
  double p0x = a * mxx + b * mxy, p0y = a * mxy + b * myy, p1x = b * mxx + c * mxy, p1y = b * mxy + c * myy;
  double half = 0.5 * amplitude;
  double d_xx = half * (p0x * a + p0y * b), d_xy = half * (p0x * b + p0y * c), d_yy = half * (p1x * b + p1y * c);
  if (cell > 0) {
    // The logarithm of sqrt(det(C2 - cell) / det(C2)), and of the lattice ratio.
    double sharp = fmax(w.sharp, MIN_DETERMINANT);
    d_u -= share * w.log_u, d_v -= share * w.log_v;
    d_xx += 0.5 * share * ((w.yy - cell) / sharp - a) - share * w.log_xx;
    d_xy += 0.5 * share * (-w.xy / sharp - b) - share * w.log_xy;
    d_yy += 0.5 * share * ((w.xx - cell) / sharp - c) - share * w.log_yy;
  }
  double x = w.centre[0], y = w.centre[1], z = w.centre[2], fx = k[0], skew = k[1], fy = k[4];
  double d_axes[3][3], d_jacobian[2][3], d_centre[3], d_ray[3], nearness = 1.0 / z;
  for (int j = 0; j < 3; ++j) {
    d_centre[j] = w.jacobian[0][j] * d_u + w.jacobian[1][j] * d_v;
    d_jacobian[0][j] = d_jacobian[1][j] = d_ray[j] = 0.0;
  }
  for (int m = 0; m < 3; ++m) {
    // rows = jacobian axes and C2 = rows rows^T + cell.
    double d_row0 = 2 * (d_xx * w.rows[0][m] + d_xy * w.rows[1][m]);
    double d_row1 = 2 * (d_xy * w.rows[0][m] + d_yy * w.rows[1][m]);
    for (int j = 0; j < 3; ++j) {
      d_jacobian[0][j] += d_row0 * w.axes[j][m], d_jacobian[1][j] += d_row1 * w.axes[j][m];
      d_axes[j][m] = w.jacobian[0][j] * d_row0 + w.jacobian[1][j] * d_row1;
    }
  }
  double near2 = nearness * nearness;
  d_centre[0] -= d_jacobian[0][2] * fx * near2;
  d_centre[1] -= (d_jacobian[0][2] * skew + d_jacobian[1][2] * fy) * near2;
  d_centre[2] -= (d_jacobian[0][0] * fx + d_jacobian[0][1] * skew + d_jacobian[1][1] * fy) * near2;
  d_centre[2] += 2 * (d_jacobian[0][2] * (fx * x + skew * y) + d_jacobian[1][2] * fy * y) * near2 * nearness;
  double norm2 = w.whitened[0] * w.whitened[0] + w.whitened[1] * w.whitened[1] + w.whitened[2] * w.whitened[2];
  double d_view[3][3];
  for (int m = 0; m < 3; ++m) {
    // peak = sqrt(2 pi) / |whitened|, whitened_m = (camera axis m) . ray / scale_m.
    double size = scale[m], d_whitened = -log_peak * w.whitened[m] / norm2;
    out.scale[m] -= d_whitened * w.whitened[m] / size;
    for (int i = 0; i < 3; ++i) {
      d_ray[i] += d_whitened * w.axes[i][m] / (size * size);
      out.scale[m] += d_axes[i][m] * w.axes[i][m] / size;
      d_view[i][m] = d_axes[i][m] * size + w.ray[i] * d_whitened / size;
    }
  }
  double per_length = 1.0 / sqrt(x * x + y * y + z * z);
  double along = d_ray[0] * w.ray[0] + d_ray[1] * w.ray[1] + d_ray[2] * w.ray[2];
  for (int i = 0; i < 3; ++i) d_centre[i] += (d_ray[i] - along * w.ray[i]) * per_length;
  for (int j = 0; j < 3; ++j) {
    out.mean[j] += pose[j] * d_centre[0] + pose[4 + j] * d_centre[1] + pose[8 + j] * d_centre[2];
    for (int m = 0; m < 3; ++m)
      out.rotation[j][m] += pose[j] * d_view[0][m] + pose[4 + j] * d_view[1][m] + pose[8 + j] * d_view[2][m];
  }
  if (camera == 0) return;
  for (int i = 0; i < 3; ++i) {
    camera[4 * i + 3] = d_centre[i];
    for (int j = 0; j < 3; ++j) {
      camera[4 * i + j] = d_centre[i] * mean[j];
      for (int m = 0; m < 3; ++m) camera[4 * i + j] += d_view[i][m] * w.rotation[j][m];
    }
  }
  camera[12] = (d_u * x + d_jacobian[0][0]) * nearness - d_jacobian[0][2] * x * near2;
  camera[13] = (d_u * y + d_jacobian[0][1]) * nearness - d_jacobian[0][2] * y * near2;
  camera[14] = d_u;
  camera[15] = (d_v * y + d_jacobian[1][1]) * nearness - d_jacobian[1][2] * y * near2;
  camera[16] = d_v;
}

// From moments to the parameters: one thread a Gaussian, over all views in order. cameras: sums of each warp,
// (views, warps, 17), or null. screen: (N, 2) to which the norms of the image means' gradients are added, or null.
extern "C" __global__ void __launch_bounds__(128) chain_xray(
    const float* means, const float* quats, const float* scales, const float* density,
    const double* intrinsics, const double* poses, int num, int num_views, int width, int height, double cell,
    const float4* records, const float* moments, float* d_means, float* d_quats, float* d_scales,
    float* d_density, double* cameras, float* screen) {
  int n = blockIdx.x * 128 + threadIdx.x, lane = threadIdx.x % WARP;
  int num_warps = gridDim.x * 4, warp = blockIdx.x * 4 + threadIdx.x / WARP;
  Gradient out = {{0, 0, 0}, {0, 0, 0}, {{0, 0, 0}, {0, 0, 0}, {0, 0, 0}}};
  float norm = 0.0f, seen = 0.0f;
  bool any = false;
  for (int view = 0; view < num_views; ++view) {
    double camera[17];
    for (int k = 0; k < 17; ++k) camera[k] = 0.0;
    long long at = (long long)view * num + n;
    Box box = {0, 0, 0, 0};
    if (n < num) box = box_of(records[2 * at + 1]);
    if (box.x1 > box.x0) {
      View w;
      const double *k = intrinsics + 9 * view, *pose = poses + 16 * view;
      double peak = project(means + 3 * n, quats + 4 * n, scales + 3 * n, k, pose, cell, w), d_u, d_v;
      chain(moments + 8 * at, peak * density[at], means + 3 * n, scales + 3 * n, k, pose, cell, w, out, d_u, d_v,
            cameras ? camera : 0);
      d_density[at] = (float)(peak * moments[8 * at]);
      // Normalised device coordinates: a pixel is 2/W and 2/H of them wide and high.
      d_u *= 0.5 * width, d_v *= 0.5 * height;
      norm += (float)sqrt(d_u * d_u + d_v * d_v), seen += 1.0f;
      any = true;
    } else if (n < num) {
      d_density[at] = 0.0f;
    }
    if (cameras == 0) continue;
    for (int k = 0; k < 17; ++k) {
      double sum = sum_warp(camera[k]);
      if (lane == 0) cameras[((long long)view * num_warps + warp) * 17 + k] = sum;
    }
  }
  if (n >= num) return;
  float d_quat[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  if (any) rotation_backward(quats + 4 * n, out.rotation, d_quat);
  for (int k = 0; k < 3; ++k) d_means[3 * n + k] = (float)out.mean[k], d_scales[3 * n + k] = (float)out.scale[k];
  for (int k = 0; k < 4; ++k) d_quats[4 * n + k] = d_quat[k];
  if (screen && any) screen[2 * n] += norm, screen[2 * n + 1] += seen;
}
