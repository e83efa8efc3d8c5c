// The way back from the sums of each surfel to its parameters and the pose; continues surfels.cu.

// Gradients of the axes and the centre of one surfel from its sums, those of its scales and of its image.
__device__ inline void to_camera(const double* g, const double* d_normal, const float* scale, const double* intrinsics,
                                 const View& w, double d_axes[3][3], double* d_centre, double* d_scale,
                                 double* d_image) {
  double fx = intrinsics[0], skew = intrinsics[1], fy = intrinsics[4], shear = -skew / (fx * fy), z = w.centre[2];
  double per_u = z / scale[0], per_v = z / scale[1], d_ray[3] = {0, 0, 0};
  // r0 and r1: across z / s, along the image's directions.
  double u0 = (g[1] / fx + g[2] * shear) * per_u, u1 = g[2] / fy * per_u;
  double v0 = (g[4] / fx + g[5] * shear) * per_v, v1 = g[5] / fy * per_v;
  double along_u = u0 * w.across_u[0] + u1 * w.across_u[1], along_v = v0 * w.across_v[0] + v1 * w.across_v[1];
  // across_u = b x ray and across_v = ray x a; their third components are not seen.
  d_axes[0][1] = -u1 * w.ray[2], d_axes[1][1] = u0 * w.ray[2], d_axes[2][1] = u1 * w.ray[0] - u0 * w.ray[1];
  d_axes[0][0] = v1 * w.ray[2], d_axes[1][0] = -v0 * w.ray[2], d_axes[2][0] = v0 * w.ray[1] - v1 * w.ray[0];
  d_ray[0] = u1 * w.axes[2][1] - v1 * w.axes[2][0];
  d_ray[1] = v0 * w.axes[2][0] - u0 * w.axes[2][1];
  // The third component of the ray is 1 whatever the centre, so that its gradient goes nowhere.
  d_scale[0] = -along_u / scale[0], d_scale[1] = -along_v / scale[1];
  // r2 = n . d and q = (1 + n . d / n . ray) / z.
  double d_x = g[7], d_y = g[8], d_cosine = g[6], d_z = (along_u + along_v) / z - g[9] / (z * z);
  double r2x = w.axes[0][2] / fx, r2y = w.axes[0][2] * shear + w.axes[1][2] / fy, qx = 0.0, qy = 0.0;
  if (!w.steep) {
    qx = r2x / (w.cosine * z), qy = r2y / (w.cosine * z);
    d_x += g[10] / (w.cosine * z), d_y += g[11] / (w.cosine * z);
    double along_q = g[10] * qx + g[11] * qy;
    d_cosine -= along_q / w.cosine, d_z -= along_q / z;
  }
  double sign = w.cosine > 0 ? -1.0 : 1.0;
  for (int k = 0; k < 3; ++k) {
    d_axes[k][2] = d_cosine * w.ray[k] + sign * d_normal[k];
    d_ray[k] += d_cosine * w.axes[k][2];
  }
  d_axes[0][2] += d_x / fx + d_y * shear, d_axes[1][2] += d_y / fy;
  // The centre: every plane and the low-pass move with it.
  double r0x = w.across_u[0] / fx * per_u, r0y = (w.across_u[0] * shear + w.across_u[1] / fy) * per_u;
  double r1x = w.across_v[0] / fx * per_v, r1y = (w.across_v[0] * shear + w.across_v[1] / fy) * per_v;
  d_image[0] = -(r0x * g[0] + r1x * g[3] + r2x * g[6] + qx * g[9]) - 2 * LOW_PASS * g[12];
  d_image[1] = -(r0y * g[0] + r1y * g[3] + r2y * g[6] + qy * g[9]) - 2 * LOW_PASS * g[13];
  d_ray[0] += fx * d_image[0], d_ray[1] += skew * d_image[0] + fy * d_image[1];
  d_centre[0] = d_ray[0] / z, d_centre[1] = d_ray[1] / z;
  d_centre[2] = d_z - (d_ray[0] * w.ray[0] + d_ray[1] * w.ray[1]) / z;
}

// From the sums of all groups of values to the parameters, one thread a surfel. poses: the sums of each warp,
// (warps, 12), or null. screen: (N, 2) to which the norms of the projected centres' gradients are added, or null.
extern "C" __global__ void __launch_bounds__(128) chain_surfels(
    const float* means, const float* quats, const float* scales, const double* intrinsics, const double* pose, int num,
    int channels, int groups, int width, int height, const int4* boxes, const float* sums, float* d_means,
    float* d_quats, float* d_scales, float* d_opacity, float* d_colours, double* poses, float* screen) {
  int n = blockIdx.x * 128 + threadIdx.x;
  double d_pose[12], d_mean[3] = {0, 0, 0}, d_scale[2] = {0, 0};
  float d_quat[4] = {0.0f, 0.0f, 0.0f, 0.0f}, d_own = 0.0f;
  for (int k = 0; k < 12; ++k) d_pose[k] = 0.0;
  bool drawn = n < num && boxes[n].y > boxes[n].x;
  if (drawn) {
    double g[GEOMETRY], d_normal[3], d_axes[3][3], d_centre[3], d_image[2], d_rotation[3][3];
    for (int k = 0; k < GEOMETRY; ++k) g[k] = 0.0;
    for (int group = 0; group < groups; ++group)
      for (int k = 0; k < GEOMETRY; ++k) g[k] += sums[((long long)group * num + n) * SUMS + k];
    for (int k = 0; k < 3; ++k) d_normal[k] = sums[(long long)n * SUMS + GEOMETRY + k];
    View w;
    place(means + 3 * n, quats + 4 * n, pose, w);
    to_camera(g, d_normal, scales + 2 * n, intrinsics, w, d_axes, d_centre, d_scale, d_image);
    d_own = (float)g[14];
    for (int i = 0; i < 3; ++i) {
      d_pose[4 * i + 3] = d_centre[i];
      for (int j = 0; j < 3; ++j) {
        d_rotation[i][j] = 0.0;
        d_pose[4 * i + j] = d_centre[i] * means[3 * n + j];
        for (int k = 0; k < 3; ++k) {
          d_pose[4 * i + j] += d_axes[i][k] * w.rotation[j][k];
          d_rotation[i][j] += pose[4 * k + i] * d_axes[k][j];
        }
      }
    }
    for (int j = 0; j < 3; ++j)
      d_mean[j] = pose[j] * d_centre[0] + pose[4 + j] * d_centre[1] + pose[8 + j] * d_centre[2];
    rotation_backward(quats + 4 * n, d_rotation, d_quat);
    if (screen) {
      // Normalised device coordinates: a pixel is 2/W and 2/H of them wide and high.
      double x = d_image[0] * 0.5 * width, y = d_image[1] * 0.5 * height;
      screen[2 * n] += (float)sqrt(x * x + y * y), screen[2 * n + 1] += 1.0f;
    }
  }
  if (poses) {
    int warp = blockIdx.x * 4 + threadIdx.x / WARP;
    for (int k = 0; k < 12; ++k) {
      double sum = sum_warp(d_pose[k]);
      if (threadIdx.x % WARP == 0) poses[12ll * warp + k] = sum;
    }
  }
  if (n >= num) return;
  for (int k = 0; k < 3; ++k) d_means[3 * n + k] = (float)d_mean[k];
  for (int k = 0; k < 4; ++k) d_quats[4 * n + k] = d_quat[k];
  for (int k = 0; k < 2; ++k) d_scales[2 * n + k] = (float)d_scale[k];
  d_opacity[n] = d_own;
  for (int c = 0; c < channels; ++c) {
    int at = c + 3;
    float value = drawn ? sums[((long long)(at / VALUES) * num + n) * SUMS + GEOMETRY + at % VALUES] : 0.0f;
    d_colours[(long long)n * channels + c] = value;
  }
}
