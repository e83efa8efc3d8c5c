// Surfel splatting: flat Gaussian discs blended from near to far; the mathematics is that of ``_torch_surfel``.
//
// Projection and the way back to the parameters are in float64. A tile of 16 x 16 pixels has one block, and each
// of its warps a patch of 8 x 4 pixels, which it leaves out where a surfel's box does not reach. Inverse depths
// are taken relative to the tile's nearest surfel, so that their differences stay exact in float32.

#define TILE 16
#define PIXELS 256
#define VALUES 8
#define SUMS 24
#define GEOMETRY 15
#define INDEX_BITS 24
#define INDEX_MASK ((1ull << INDEX_BITS) - 1)

struct Surfel {
  double x, y, inverse;
  float r0x, r0y, r1x, r1y, r2, r2x, r2y, qx, qy, opacity;
  float normal[3], unused;
};

struct View {
  double rotation[3][3], axes[3][3], centre[3], ray[3], across_u[3], across_v[3], cosine;
  bool steep;
};

__device__ inline void cross(const double* a, const double* b, double* out) {
  out[0] = a[1] * b[2] - a[2] * b[1];
  out[1] = a[2] * b[0] - a[0] * b[2];
  out[2] = a[0] * b[1] - a[1] * b[0];
}

// The axes, centre and ray of one usable surfel, and b x ray and ray x a of its tangents a and b.
__device__ inline void place(const float* mean, const float* quat, const double* pose, View& w) {
  rotation_of(quat, w.rotation);
  for (int i = 0; i < 3; ++i) {
    w.centre[i] = pose[4 * i + 3];
    for (int j = 0; j < 3; ++j) {
      w.centre[i] += pose[4 * i + j] * mean[j];
      w.axes[i][j] = 0.0;
      for (int k = 0; k < 3; ++k) w.axes[i][j] += pose[4 * i + k] * w.rotation[k][j];
    }
  }
  double length2 = 0.0;
  w.cosine = 0.0;
  for (int i = 0; i < 3; ++i) {
    w.ray[i] = w.centre[i] / w.centre[2];
    w.cosine += w.axes[i][2] * w.ray[i];
    length2 += w.ray[i] * w.ray[i];
  }
  w.steep = fabs(w.cosine) < MIN_COSINE * sqrt(length2);
  double a[3] = {w.axes[0][0], w.axes[1][0], w.axes[2][0]}, b[3] = {w.axes[0][1], w.axes[1][1], w.axes[2][1]};
  cross(b, w.ray, w.across_u);
  cross(w.ray, a, w.across_v);
}

// First pixel, end and half size of the box of |(u, v)| <= cutoff along one image axis. m: the image of the
// surfel's axes about its centre, times depth; w: their depths. It may be the whole image.
__device__ inline double side_of(double centre, double m0, double m1, double w0, double w1, double z, double cutoff2,
                                 bool whole, int size, int& first, int& end) {
  first = 0, end = size;
  if (whole) return size;
  double divisor = z * z - cutoff2 * (w0 * w0 + w1 * w1), shift = -cutoff2 * (m0 * w0 + m1 * w1) / divisor;
  double spread = sqrt(fmax(shift * shift + cutoff2 * (m0 * m0 + m1 * m1) / divisor, 0.0));
  double low_pass = sqrt(cutoff2 / LOW_PASS);
  double low = fmin(shift - spread, -low_pass) + centre, high = fmax(shift + spread, low_pass) + centre;
  clip_range(low, high, size, first, end);
  return (high - low) / 2;
}

// A key by which surfels lie from near to far: 40 bits of the depth, then the index.
__device__ inline u64 key_of(double depth, int index) {
  // Six bits of the exponent and 34 of the mantissa; depths lie below 2^22, and below 2^-42 count as one.
  long long bits = __double_as_longlong(depth) - ((1023ll - 42) << 52);
  u64 place = bits < 0 ? 0ull : (u64)bits >> 18;
  return place << INDEX_BITS | (u64)index;
}

// Surfels, boxes (x0, x1, y0, y1; empty for one that is skipped), radii, and the tiles' counts.
extern "C" __global__ void __launch_bounds__(128) project_surfels(
    const float* means, const float* quats, const float* scales, const float* opacity, const float* colours,
    const double* intrinsics, const double* pose, int num, int channels, double near, int width, int height,
    Surfel* surfels, int4* boxes, float* radius, int* counts) {
  int n = blockIdx.x * 128 + threadIdx.x;
  if (n >= num) return;
  boxes[n] = make_int4(0, 0, 0, 0);
  radius[n] = 0.0f;
  float own = opacity[n];
  bool good = is_usable(means + 3 * n, quats + 4 * n, scales + 2 * n, 2) && own <= 1.0f && own >= (float)MIN_ALPHA;
  for (int c = 0; c < channels; ++c) good = good && fabs((double)colours[(long long)n * channels + c]) <= MAX_DENSITY;
  if (!good) return;
  double depth = pose[11];
  for (int j = 0; j < 3; ++j) depth += pose[8 + j] * means[3 * n + j];
  if (!(depth > near)) return;
  View w;
  place(means + 3 * n, quats + 4 * n, pose, w);
  double fx = intrinsics[0], skew = intrinsics[1], fy = intrinsics[4], shear = -skew / (fx * fy);
  double z = w.centre[2], size_u = scales[2 * n], size_v = scales[2 * n + 1];
  Surfel s;
  s.x = fx * w.ray[0] + skew * w.ray[1] + intrinsics[2], s.y = fy * w.ray[1] + intrinsics[5];
  s.inverse = 1.0 / z;
  s.r0x = (float)(w.across_u[0] / fx * z / size_u);
  s.r0y = (float)((w.across_u[0] * shear + w.across_u[1] / fy) * z / size_u);
  s.r1x = (float)(w.across_v[0] / fx * z / size_v);
  s.r1y = (float)((w.across_v[0] * shear + w.across_v[1] / fy) * z / size_v);
  double r2x = w.axes[0][2] / fx, r2y = w.axes[0][2] * shear + w.axes[1][2] / fy;
  s.r2 = (float)w.cosine, s.r2x = (float)r2x, s.r2y = (float)r2y;
  s.qx = w.steep ? 0.0f : (float)(r2x / (w.cosine * z)), s.qy = w.steep ? 0.0f : (float)(r2y / (w.cosine * z));
  s.opacity = own, s.unused = 0.0f;
  for (int k = 0; k < 3; ++k) s.normal[k] = (float)(w.cosine > 0 ? -w.axes[k][2] : w.axes[k][2]);
  float sum = s.r0x - s.r0x + s.r0y - s.r0y + s.r1x - s.r1x + s.r1y - s.r1y + s.r2 - s.r2;
  sum += s.r2x - s.r2x + s.r2y - s.r2y + s.qx - s.qx + s.qy - s.qy;
  // Not 0 if any of them is NaN or infinite.
  if (!(sum == 0.0f)) return;
  double cutoff2 = 2 * log((double)own / MIN_ALPHA);
  double w0 = w.axes[2][0] * size_u, w1 = w.axes[2][1] * size_v;
  double y0 = fy * (w.axes[1][0] * size_u - w.ray[1] * w0), y1 = fy * (w.axes[1][1] * size_v - w.ray[1] * w1);
  double x0 = fx * (w.axes[0][0] * size_u - w.ray[0] * w0) + skew / fy * y0;
  double x1 = fx * (w.axes[0][1] * size_v - w.ray[0] * w1) + skew / fy * y1;
  bool whole = z - sqrt(cutoff2 * (w0 * w0 + w1 * w1)) < 1e-3 * z;
  int4 box;
  double half_x = side_of(s.x, x0, x1, w0, w1, z, cutoff2, whole, width, box.x, box.y);
  double half_y = side_of(s.y, y0, y1, w0, w1, z, cutoff2, whole, height, box.z, box.w);
  if (box.y <= box.x || box.w <= box.z) return;
  boxes[n] = box, surfels[n] = s;
  radius[n] = (float)fmin(fmax(half_x, half_y), (double)max(width, height));
  int columns = (width + TILE - 1) / TILE;
  for (int y = box.z / TILE; y <= (box.w - 1) / TILE; ++y)
    for (int x = box.x / TILE; x <= (box.y - 1) / TILE; ++x) atomicAdd(counts + y * columns + x, 1);
}

extern "C" __global__ void __launch_bounds__(128) fill_surfels(
    const Surfel* surfels, const int4* boxes, int num, int width, int capacity, const u64* totals, int* cursors,
    u64* members, int* asked) {
  int n = blockIdx.x * 128 + threadIdx.x;
  if (n == 0) *asked = (int)(totals[0] > (u64)LIST_LIMIT ? (u64)LIST_LIMIT : totals[0]);
  if (n >= num) return;
  int4 box = boxes[n];
  if (box.y <= box.x) return;
  u64 key = key_of(1.0 / surfels[n].inverse, n);
  int columns = (width + TILE - 1) / TILE;
  for (int y = box.z / TILE; y <= (box.w - 1) / TILE; ++y)
    for (int x = box.x / TILE; x <= (box.y - 1) / TILE; ++x) {
      int slot = atomicAdd(cursors + y * columns + x, 1);
      if (slot < capacity) members[slot] = key;
    }
}

extern "C" __global__ void __launch_bounds__(256) sort_surfels(const int4* items, const u64* totals, u64* members) {
  __shared__ u64 room[2048];
  sort_item<u64, 2048>(items, totals, members, room);
}
