// Lists of the Gaussians that meet each tile: counted by the program's own kernel, then given a place
// in one array here, then filled, and sorted where the order matters.

// Gives each tile its part of the member array, in no fixed order, and cuts that into items of work.
// totals: members asked for (at most LIST_LIMIT) and items. items: tile, first, end, number of the tile's
// items. Members beyond the capacity get no item; whoever fills the lists must draw those himself.
#define LIST_LIMIT 1073741824ll

extern "C" __global__ void __launch_bounds__(256) allocate_tiles(
    const int* counts, int num_tiles, int capacity, int item_size, u64* totals, int* cursors, int4* items) {
  __shared__ u64 warp_sums[8];
  __shared__ u64 block_start;
  int tile = blockIdx.x * 256 + threadIdx.x, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  u64 count = tile < num_tiles ? (u64)counts[tile] : 0ull;
  u64 before = count;
  for (int step = 1; step < WARP; step *= 2) {
    u64 other = __shfl_up_sync(ALL_LANES, before, step);
    if (lane >= step) before += other;
  }
  if (lane == WARP - 1) warp_sums[warp] = before;
  __syncthreads();
  if (threadIdx.x == 0) {
    u64 total = 0;
    for (int w = 0; w < 8; ++w) {
      u64 sum = warp_sums[w];
      warp_sums[w] = total;
      total += sum;
    }
    block_start = total ? atomicAdd(&totals[0], total) : 0ull;
  }
  __syncthreads();
  if (tile >= num_tiles) return;
  long long start = (long long)(block_start + warp_sums[warp] + before - count);
  if (start > LIST_LIMIT) start = LIST_LIMIT;
  cursors[tile] = (int)start;
  long long room = capacity - start;
  int stored = (int)(room < 0 ? 0 : (room < (long long)count ? room : (long long)count));
  if (stored == 0) return;
  int num_items = (stored - 1) / item_size + 1;
  int at = (int)atomicAdd(&totals[1], (u64)num_items);
  for (int k = 0; k < num_items; ++k) {
    int first = (int)start + k * item_size, end = (int)start + stored;
    items[at + k] = make_int4(tile, first, end - first > item_size ? first + item_size : end, num_items);
  }
}

// Sorts n keys upwards by one block. All comparisons point the same way, so that keys beyond n, which are
// never touched, act as the largest.
template <typename Key>
__device__ inline void sort_keys(Key* keys, int n) {
  for (int size = 2; size < 2 * n; size *= 2) {
    for (int step = size / 2; step > 0; step /= 2) {
      for (int k = threadIdx.x; k < n; k += blockDim.x) {
        int other = step == size / 2 ? k ^ (size - 1) : k ^ step;
        if (other > k && other < n && keys[other] < keys[k]) {
          Key swap = keys[k];
          keys[k] = keys[other];
          keys[other] = swap;
        }
      }
      __syncthreads();
    }
  }
}

template <typename Key, int ROOM>
__device__ inline void sort_item(const int4* items, const u64* totals, Key* members, Key* room) {
  if (blockIdx.x >= totals[1]) return;
  int4 item = items[blockIdx.x];
  int n = item.z - item.y;
  Key* keys = members + item.y;
  if (n < 2) return;
  if (n > ROOM) {
    sort_keys(keys, n);
    return;
  }
  for (int k = threadIdx.x; k < n; k += blockDim.x) room[k] = keys[k];
  __syncthreads();
  sort_keys(room, n);
  for (int k = threadIdx.x; k < n; k += blockDim.x) keys[k] = room[k];
}
