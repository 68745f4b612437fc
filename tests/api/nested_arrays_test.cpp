// Arrays inside of other values: structs with serialize(), maps, tuples, vectors, optionals, variants and pointers.
// They travel out of band, as they would by themselves: const ones are lent, others are given.
#include "payload.hpp"

#include <map>
#include <memory>
#include <optional>
#include <tuple>
#include <unordered_map>
#include <variant>

namespace {

using namespace shmpool::testing;
using asio::awaitable;
using shmpool::array;
using shmpool::process_pool;

/// A user's wrapper: arrays with what belongs to them.
struct signal_record {
  std::string name;
  double rate = 0;
  array<const float> samples;
  array<double, 2> spectrum;

  template <class Archive>
  void serialize(Archive& archive) {
    archive(name, rate, samples, spectrum);
  }
};

using dictionary = std::map<std::string, array<double>>;
using const_dictionary = std::map<std::string, array<const double>>;

std::uint64_t digest_of(const const_dictionary& all) {
  std::uint64_t hash = all.size();
  for (const auto& [name, values] : all) hash = std::rotl(hash, 7) ^ digest(name) ^ digest(values);
  return hash;
}

TEST(nested_arrays, a_dictionary_of_arrays_is_lent_where_its_arrays_are_const) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      auto x = make_pattern<double>(pool, 40, n);
      const_dictionary all;
      all["whole"] = x;
      all["odd slice"] = x.rows(3, n - 2);
      all["row"] = x.reshape(n / 5, 5)[n / 10];
      all["vector's"] = shmpool::make_array<double>(n, 1.0);
      all["empty"] = {};
      const std::uint64_t peak = pool.stats().peak_bytes;
      EXPECT_EQ(co_await pool.submit(digest_of, all), digest_of(all));
      // Only what was not in shared memory was copied there.
      EXPECT_LT(pool.stats().peak_bytes - peak, n * sizeof(double) * 3 / 2 + 8192);
      EXPECT_EQ(pool.stats().live_segments, 1u);
      pool.clear_shm();
    }
  });
}

const_dictionary kept;
void keep(const_dictionary all) {
  kept = std::move(all);
}
double kept_first(const std::string& name) {
  return kept.at(name)[0];
}
void drop_kept() {
  kept.clear();
}

TEST(nested_arrays, a_nested_array_that_is_lent_is_the_callers_own_memory) {
  with_pool(one_worker(), [](process_pool& pool) -> awaitable<void> {
    auto x = make_pattern<double>(pool, 41, many);
    const_dictionary all;
    all["x"] = x;
    co_await pool.submit(keep, all);
    x[0] = 42;
    EXPECT_EQ(co_await pool.submit(kept_first, "x"), 42);
    EXPECT_EQ(pool.stats().live_segments, 1u);
    co_await pool.submit(drop_kept);
  });
}

dictionary square(dictionary all) {
  for (auto& [name, values] : all) {
    for (double& each : values) each *= each;
  }
  all["new"] = shmpool::make_array<double>(std::size_t{50'000}, 7.0);
  all["none"] = {};
  return all;
}

TEST(nested_arrays, a_dictionary_of_arrays_is_moved_there_and_back) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      pool.clear_shm();
      dictionary all;
      all["a"] = pool.make_array<double>(n, 3.0);
      all["b"] = pool.make_array<double>(n + 1, 4.0);
      const auto id = all["a"].handle().get()->id();
      dictionary back = co_await pool.submit(square, std::move(all));
      EXPECT_EQ(back.size(), 4u);
      EXPECT_EQ(back["a"][n - 1], 9);
      EXPECT_EQ(back["b"][n], 16);
      EXPECT_EQ(back["new"].size(), 50'000u);
      EXPECT_EQ(back["new"][49'999], 7);
      EXPECT_TRUE(back["none"].empty());
      if (n == many) {
        EXPECT_EQ(back["a"].handle().get()->id(), id);
        EXPECT_EQ(pool.stats().live_segments, 3u);
        EXPECT_EQ(pool.stats().cached_segments, 0u) << "an array was copied";
      }
    }
  });
}

TEST(nested_arrays, a_mutable_nested_array_that_the_caller_keeps_is_copied) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      dictionary all;
      all["a"] = pool.make_array<double>(n, 3.0);
      dictionary back = co_await pool.submit(square, all);
      EXPECT_EQ(back["a"][n - 1], 9);
      EXPECT_EQ(all["a"][n - 1], 3);
      // Kept by a second name only.
      auto a = all["a"];
      back = co_await pool.submit(square, std::move(all));
      EXPECT_EQ(back["a"][0], 9);
      EXPECT_EQ(a[0], 3);
    }
  });
}

signal_record analyse(signal_record in, const signal_record& reference) {
  signal_record out;
  out.name = in.name + reference.name;
  out.rate = in.rate + reference.rate;
  out.samples = in.samples;  // a look at what was lent
  out.spectrum = std::move(in.spectrum);
  out.spectrum(0, 1) = reference.spectrum(0, 1) + static_cast<double>(reference.samples[0]);
  return out;
}

TEST(nested_arrays, a_struct_with_serialize_goes_there_and_back) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      auto samples = make_pattern<float>(pool, 42, n);
      signal_record in{"left", 1.5, samples.rows(1, n), make_pattern<double>(pool, 43, n / 5, 5)};
      const signal_record reference{"right", 2.0, shmpool::make_array<float>(n, 8.0f),
                                    pool.make_array<double>(n / 5, 5, 0.5)};
      const auto spectrum = in.spectrum.clone();
      const signal_record out = co_await pool.submit(analyse, std::move(in), reference);
      EXPECT_EQ(out.name, "leftright");
      EXPECT_EQ(out.rate, 3.5);
      EXPECT_EQ(digest(out.samples), digest(samples.rows(1, n)));
      if (n == many) {
        EXPECT_EQ(out.samples.handle(), samples.handle());
      }
      EXPECT_EQ(out.spectrum(0, 1), 8.5);
      spectrum(0, 1) = 8.5;
      EXPECT_EQ(digest(out.spectrum), digest(spectrum));
    }
  });
}

using anything = std::variant<int, array<const double>, std::string>;
using deep = std::tuple<std::vector<std::optional<array<const double>>>, std::unordered_map<int, anything>,
                        std::pair<std::string, std::vector<signal_record>>>;

deep turn(deep in) {
  auto& [list, map, records] = in;
  std::swap(list.at(0), list.at(1));
  map[7] = std::get<array<const double>>(map.at(3)).rows(1, 4);
  records.second.push_back(records.second.at(0));
  return in;
}

TEST(nested_arrays, nesting_may_be_deep) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      auto x = make_pattern<double>(pool, 44, n);
      deep in;
      auto& [list, map, records] = in;
      list.emplace_back(x);
      list.emplace_back();
      map.emplace(3, x);
      map.emplace(4, std::string("four"));
      map.emplace(5, 5);
      records.first = "records";
      records.second.push_back({"r", 1, make_pattern<float>(pool, 45, n), make_pattern<double>(pool, 46, n / 2, 2)});
      const std::uint64_t spectrum = digest(records.second[0].spectrum);

      const deep out = co_await pool.submit(turn, in);
      const auto& [list_out, map_out, records_out] = out;
      EXPECT_FALSE(list_out.at(0));
      EXPECT_EQ(digest(list_out.at(1).value()), digest(x));
      EXPECT_EQ(digest(std::get<array<const double>>(map_out.at(7))), digest(x.rows(1, 4)));
      EXPECT_EQ(std::get<std::string>(map_out.at(4)), "four");
      EXPECT_EQ(std::get<int>(map_out.at(5)), 5);
      EXPECT_EQ(records_out.second.size(), 2u);
      for (const signal_record& each : records_out.second) {
        EXPECT_EQ(digest(each.spectrum), spectrum);
        EXPECT_EQ(digest(each.samples), digest(records.second[0].samples));
      }
      if (n == many) {
        EXPECT_EQ(list_out.at(1)->handle(), x.handle());
        EXPECT_EQ(std::get<array<const double>>(map_out.at(3)).handle(), x.handle());
      }
    }
  });
}

TEST(nested_arrays, arrays_behind_pointers) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    for (const std::size_t n : lengths) {
      auto unique = std::make_unique<signal_record>();
      unique->spectrum = make_pattern<double>(pool, 47, n / 5, 5);
      const std::uint64_t expected = digest(unique->spectrum);
      const auto take = [](std::unique_ptr<signal_record> x) { return x; };
      const auto back = co_await pool.submit(take, std::move(unique));
      EXPECT_EQ(digest(back->spectrum), expected);

      // What a shared_ptr leads to belongs to others, too: their array is not given away.
      auto shared = std::make_shared<signal_record>(*back);
      const auto spoil = [](std::shared_ptr<signal_record> x) {
        for (double& each : x->spectrum) each = 0;
        return x.use_count();
      };
      auto other_name = shared;
      EXPECT_EQ(co_await pool.submit(spoil, std::move(other_name)), 1);
      EXPECT_EQ(digest(shared->spectrum), expected);
    }
  });
}

TEST(nested_arrays, more_arrays_in_one_call_than_a_small_list_holds) {
  with_pool([](process_pool& pool) -> awaitable<void> {
    std::vector<array<const double>> all;
    std::uint64_t expected = 0;
    for (std::size_t i = 0; i != 200; ++i) {
      all.push_back(make_pattern<double>(pool, 50 + i, 3000));
      expected = std::rotl(expected, 1) ^ digest(all.back());
    }
    const auto fold = [](const std::vector<array<const double>>& each) {
      std::uint64_t hash = 0;
      for (const auto& x : each) hash = std::rotl(hash, 1) ^ digest(x);
      return std::pair(hash, each);
    };
    const auto [hash, back] = co_await pool.submit(fold, all);
    EXPECT_EQ(hash, expected);
    for (std::size_t i = 0; i != 200; ++i) EXPECT_EQ(back[i].handle(), all[i].handle());
    EXPECT_EQ(pool.stats().live_segments, 200u);
  });
}

}  // namespace
