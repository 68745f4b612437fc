// Promises about names of code across processes. The build defines SHMPOOL_TEST_PLUGIN_A and _B, the paths of two
// builds of code_ref_plugin.cpp, and SHMPOOL_TEST_PLUGIN_A_NO_ID and _B_NO_ID, the same without build ids.
#include "code/code_ref.hpp"

#include "code/module_image.hpp"

#include <shmpool/error.hpp>

#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace fs = std::filesystem;
using shmpool::code::append_code_ref;
using shmpool::code::code_ref;
using shmpool::code::decode_code_ref;
using shmpool::code::identity_kind;
using shmpool::code::locate;
using shmpool::code::resolve;

int function_of_this_program(int x) {
  return x + 1;
}
int variable_of_this_program = 5;

const void* address_of(int (*function)(int)) {
  return reinterpret_cast<const void*>(function);
}

identity_kind kind_of(const code_ref& ref) {
  return static_cast<identity_kind>(ref.module_id.at(0));
}

/// Closes what dlopen returned.
struct closer {
  void operator()(void* handle) const noexcept { ::dlclose(handle); }
};
using library = std::unique_ptr<void, closer>;

library load(const std::string& path) {
  library opened(::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL));
  if (!opened) throw std::runtime_error(::dlerror());
  return opened;
}

const void* function_in(const library& opened) {
  return ::dlsym(opened.get(), "plugin_function");
}

int call(const void* function) {
  return reinterpret_cast<int (*)()>(const_cast<void*>(function))();
}

bool is_loaded(const std::string& path) {
  return library(::dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD)) != nullptr;
}

/// A directory of its own for each test, with copies of plugins. Unloads at its end what resolve() left loaded, because
/// the next test would find it by its identity.
class code_ref_plugins : public ::testing::Test {
 protected:
  code_ref_plugins() {
    std::string name = ::testing::TempDir() + "/code_ref.XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    directory_ = fs::canonical(name);
  }
  ~code_ref_plugins() override {
    for (const auto& path : paths_) {
      while (auto* handle = ::dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD)) {
        ::dlclose(handle);
        ::dlclose(handle);
      }
    }
    fs::remove_all(directory_);
  }

  /// Puts a copy of a plugin at `name`, as an installation does: a new file that takes the place of the old one.
  std::string install(const char* plugin, const std::string& name) {
    const auto path = directory_ / name;
    fs::copy_file(plugin, path.string() + ".new", fs::copy_options::overwrite_existing);
    fs::rename(path.string() + ".new", path);
    paths_.push_back(path.string());
    return path.string();
  }

  /// The name of plugin_function in a plugin that is not loaded any more.
  static code_ref locate_and_unload(const std::string& path) {
    const auto opened = load(path);
    return locate(function_in(opened)).value();
  }

  fs::path directory_;
  std::vector<std::string> paths_;
};

TEST(code_ref, names_a_function_of_this_program) {
  const auto ref = locate(address_of(function_of_this_program));
  ASSERT_TRUE(ref);
  EXPECT_EQ(ref->path, fs::read_symlink("/proc/self/exe"));
  EXPECT_GE(ref->module_id.size(), 9u);
  std::string why_not;
  EXPECT_EQ(resolve(*ref, why_not), address_of(function_of_this_program));
  EXPECT_EQ(why_not, "");
}

TEST(code_ref, gives_functions_of_one_module_one_identity_and_different_offsets) {
  const auto one = locate(address_of(function_of_this_program));
  const auto other = locate(reinterpret_cast<const void*>(&call));
  ASSERT_TRUE(one && other);
  EXPECT_EQ(one->module_id, other->module_id);
  EXPECT_NE(one->offset, other->offset);
}

TEST(code_ref, gives_the_same_answer_again) {
  EXPECT_EQ(locate(address_of(function_of_this_program)), locate(address_of(function_of_this_program)));
}

TEST(code_ref, names_a_function_of_libc) {
  const library libc = load("libc.so.6");
  const void* function = ::dlsym(libc.get(), "gnu_get_libc_version");
  const auto ref = locate(function);
  ASSERT_TRUE(ref);
  EXPECT_TRUE(ref->path.starts_with('/')) << ref->path;
  EXPECT_NE(ref->path.find("libc"), std::string::npos) << ref->path;
  EXPECT_NE(ref->module_id, locate(address_of(function_of_this_program))->module_id);
  std::string why_not;
  EXPECT_EQ(resolve(*ref, why_not), function);
}

TEST(code_ref, is_nothing_for_addresses_without_code) {
  int on_stack = 0;
  const auto on_heap = std::make_unique<int>(0);
  EXPECT_FALSE(locate(nullptr));
  EXPECT_FALSE(locate(&on_stack));
  EXPECT_FALSE(locate(on_heap.get()));
  EXPECT_FALSE(locate(&variable_of_this_program));
  EXPECT_FALSE(locate(reinterpret_cast<const void*>(~std::uintptr_t{0})));
  EXPECT_FALSE(locate(reinterpret_cast<const void*>(std::uintptr_t{0x1234})));
}

TEST(code_ref, is_nothing_for_code_that_belongs_to_no_module) {
  void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  EXPECT_FALSE(locate(page));
  ::munmap(page, 4096);
}

TEST(code_ref, may_be_asked_for_by_many_threads) {
  const auto expected = locate(address_of(function_of_this_program));
  std::vector<std::thread> threads;
  for (int t = 0; t != 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i != 200; ++i) {
        const auto opened = load(SHMPOOL_TEST_PLUGIN_A);
        const auto ref = locate(function_in(opened));
        std::string why_not;
        EXPECT_EQ(resolve(ref.value(), why_not), function_in(opened));
        EXPECT_EQ(locate(address_of(function_of_this_program)), expected);
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST_F(code_ref_plugins, are_told_apart_by_their_build_ids) {
  const auto a = load(install(SHMPOOL_TEST_PLUGIN_A, "a.so"));
  const auto b = load(install(SHMPOOL_TEST_PLUGIN_B, "b.so"));
  const auto ref_a = locate(function_in(a));
  const auto ref_b = locate(function_in(b));
  ASSERT_TRUE(ref_a && ref_b);
  EXPECT_EQ(kind_of(*ref_a), identity_kind::build_id);
  EXPECT_EQ(ref_a->offset, ref_b->offset);
  EXPECT_NE(ref_a->module_id, ref_b->module_id);
  EXPECT_EQ(ref_a->path, paths_[0]);
  std::string why_not;
  EXPECT_EQ(resolve(*ref_a, why_not), function_in(a));
  EXPECT_EQ(resolve(*ref_b, why_not), function_in(b));
}

TEST_F(code_ref_plugins, without_build_ids_are_told_apart_by_their_contents) {
  const auto a = load(install(SHMPOOL_TEST_PLUGIN_A_NO_ID, "a.so"));
  const auto b = load(install(SHMPOOL_TEST_PLUGIN_B_NO_ID, "b.so"));
  const auto ref_a = locate(function_in(a));
  const auto ref_b = locate(function_in(b));
  ASSERT_TRUE(ref_a && ref_b);
  EXPECT_EQ(kind_of(*ref_a), identity_kind::contents);
  EXPECT_EQ(ref_a->module_id.size(), 21u);
  EXPECT_NE(ref_a->module_id, ref_b->module_id);
  std::string why_not;
  EXPECT_EQ(resolve(*ref_b, why_not), function_in(b));
}

TEST_F(code_ref_plugins, data_has_no_name) {
  const auto a = load(install(SHMPOOL_TEST_PLUGIN_A, "a.so"));
  EXPECT_FALSE(locate(::dlsym(a.get(), "plugin_variable")));
}

TEST_F(code_ref_plugins, once_unloaded_have_no_name) {
  auto a = load(install(SHMPOOL_TEST_PLUGIN_A, "a.so"));
  const void* function = function_in(a);
  ASSERT_TRUE(locate(function));
  a.reset();
  EXPECT_FALSE(locate(function));
}

TEST_F(code_ref_plugins, at_the_address_of_another_are_not_taken_for_it) {
  const auto path_a = install(SHMPOOL_TEST_PLUGIN_A, "a.so");
  const auto path_b = install(SHMPOOL_TEST_PLUGIN_B, "b.so");
  int same_address = 0;
  for (int round = 0; round != 10; ++round) {
    auto a = load(path_a);
    const void* function_a = function_in(a);
    const auto ref_a = locate(function_a).value();
    a.reset();
    const auto b = load(path_b);
    const auto ref_b = locate(function_in(b)).value();
    same_address += function_in(b) == function_a;
    EXPECT_NE(ref_b.module_id, ref_a.module_id);
    EXPECT_EQ(ref_b.path, path_b);
  }
  RecordProperty("same_address", same_address);
}

TEST_F(code_ref_plugins, are_found_wherever_they_are_loaded) {
  const auto path = install(SHMPOOL_TEST_PLUGIN_A, "a.so");
  auto first = load(path);
  const void* before = function_in(first);
  const auto ref = locate(before).value();
  first.reset();
  // Something else takes the place.
  auto* page = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(before) & ~std::uintptr_t{4095});
  void* taken = ::mmap(page, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  std::string why_not;
  const void* after = resolve(ref, why_not);
  ASSERT_NE(after, nullptr) << why_not;
  EXPECT_NE(after, before);
  EXPECT_EQ(call(after), 1);
  if (taken != MAP_FAILED) ::munmap(taken, 4096);
}

TEST_F(code_ref_plugins, are_opened_on_demand_and_stay) {
  for (const char* plugin : {SHMPOOL_TEST_PLUGIN_A, SHMPOOL_TEST_PLUGIN_B_NO_ID}) {
    const auto path = install(plugin, fs::path(plugin).filename());
    const auto ref = locate_and_unload(path);
    ASSERT_FALSE(is_loaded(path));
    std::string why_not;
    const void* function = resolve(ref, why_not);
    ASSERT_NE(function, nullptr) << why_not;
    EXPECT_EQ(call(function), plugin == std::string(SHMPOOL_TEST_PLUGIN_A) ? 1 : 2);
    EXPECT_TRUE(is_loaded(path));
    EXPECT_EQ(resolve(ref, why_not), function);
  }
}

TEST_F(code_ref_plugins, that_were_replaced_on_disk_are_refused_and_closed) {
  const auto path = install(SHMPOOL_TEST_PLUGIN_A, "plugin.so");
  const auto ref = locate_and_unload(path);
  install(SHMPOOL_TEST_PLUGIN_B, "plugin.so");
  std::string why_not;
  EXPECT_EQ(resolve(ref, why_not), nullptr);
  EXPECT_EQ(why_not, "module " + path + " has another build id than the parent's: it was replaced on disk");
  EXPECT_FALSE(is_loaded(path));
}

TEST_F(code_ref_plugins, that_were_replaced_on_disk_are_refused_without_build_ids_too) {
  const auto path = install(SHMPOOL_TEST_PLUGIN_A_NO_ID, "plugin.so");
  const auto ref = locate_and_unload(path);
  install(SHMPOOL_TEST_PLUGIN_B_NO_ID, "plugin.so");
  std::string why_not;
  EXPECT_EQ(resolve(ref, why_not), nullptr);
  EXPECT_EQ(why_not, "module " + path + " has other contents than the parent's: it was replaced on disk");
  EXPECT_FALSE(is_loaded(path));
}

TEST_F(code_ref_plugins, that_are_gone_are_refused_with_the_loaders_reason) {
  const auto path = install(SHMPOOL_TEST_PLUGIN_A, "plugin.so");
  const auto ref = locate_and_unload(path);
  fs::remove(path);
  std::string why_not;
  EXPECT_EQ(resolve(ref, why_not), nullptr);
  EXPECT_TRUE(why_not.starts_with("module " + path + " cannot be opened in the worker: ")) << why_not;
  EXPECT_NE(why_not.find("No such file"), std::string::npos) << why_not;
}

TEST_F(code_ref_plugins, of_unknown_path_are_refused_if_not_loaded) {
  auto ref = locate_and_unload(install(SHMPOOL_TEST_PLUGIN_A, "plugin.so"));
  ref.path.clear();
  std::string why_not;
  EXPECT_EQ(resolve(ref, why_not), nullptr);
  EXPECT_EQ(why_not, "the module of the function is not loaded in the worker, and its path is unknown");
}

TEST_F(code_ref_plugins, that_were_loaded_by_a_relative_name_are_named_by_their_absolute_path) {
  const auto path = install(SHMPOOL_TEST_PLUGIN_A, "plugin.so");
  const auto before = fs::current_path();
  fs::current_path(directory_);
  const auto opened = load("./plugin.so");
  fs::current_path(before);
  EXPECT_EQ(locate(function_in(opened)).value().path, path);
}

TEST(code_ref, with_an_offset_outside_of_the_code_is_refused) {
  auto ref = locate(address_of(function_of_this_program)).value();
  const auto offset_of_data = ref.offset + reinterpret_cast<std::uintptr_t>(&variable_of_this_program) -
                              reinterpret_cast<std::uintptr_t>(address_of(function_of_this_program));
  for (const std::uint64_t offset : {std::uint64_t{offset_of_data}, ~std::uint64_t{0}, std::uint64_t{1} << 62}) {
    ref.offset = offset;
    std::string why_not;
    EXPECT_EQ(resolve(ref, why_not), nullptr);
    EXPECT_NE(why_not.find("lies outside of the code of module " + ref.path), std::string::npos) << why_not;
  }
}

TEST(code_ref, of_an_unknown_module_is_refused) {
  auto ref = locate(address_of(function_of_this_program)).value();
  ref.module_id.back() ^= std::byte{1};
  ref.path.clear();
  std::string why_not;
  EXPECT_EQ(resolve(ref, why_not), nullptr);
  EXPECT_FALSE(why_not.empty());
}

code_ref decode(std::span<const std::byte> bytes, std::size_t expected_rest = 0) {
  shmpool::detail::unpacker from(bytes, {});
  auto ref = decode_code_ref(from);
  EXPECT_EQ(from.remaining(), expected_rest);
  return ref;
}

void expect_refused(const std::vector<std::byte>& bytes) {
  try {
    shmpool::detail::unpacker from(bytes, {});
    decode_code_ref(from);
    ADD_FAILURE() << "accepted";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), shmpool::errc::protocol_violation);
  }
}

std::vector<std::byte> encoded(const code_ref& ref) {
  std::vector<std::byte> bytes;
  append_code_ref(bytes, ref);
  return bytes;
}

TEST(code_ref_bytes, give_the_reference_back) {
  const auto ref = locate(address_of(function_of_this_program)).value();
  auto bytes = encoded(ref);
  EXPECT_EQ(decode(bytes), ref);
  bytes.push_back(std::byte{9});
  EXPECT_EQ(decode(bytes, 1), ref);
}

TEST(code_ref_bytes, cut_anywhere_are_refused) {
  const auto bytes = encoded(locate(address_of(function_of_this_program)).value());
  for (std::size_t size = 0; size != bytes.size(); ++size) {
    expect_refused({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)});
  }
}

TEST(code_ref_bytes, with_an_impossible_identity_are_refused) {
  code_ref ref{{std::byte{1}, std::byte{2}}, 3, "/x"};
  EXPECT_EQ(decode(encoded(ref)), ref);
  ref.module_id = {};
  expect_refused(encoded(ref));
  ref.module_id = {std::byte{1}};
  expect_refused(encoded(ref));
  ref.module_id = {std::byte{3}, std::byte{2}};
  expect_refused(encoded(ref));
  ref.module_id.assign(shmpool::code::max_module_id + 1, std::byte{1});
  expect_refused(encoded(ref));
}

TEST(code_ref_bytes, with_a_null_character_in_the_path_are_refused) {
  expect_refused(encoded({{std::byte{1}, std::byte{2}}, 3, std::string("/x\0y", 4)}));
}

TEST(code_ref_bytes, leave_out_a_path_that_nobody_could_open) {
  const code_ref ref{{std::byte{1}, std::byte{2}}, 3, std::string(5000, 'x')};
  EXPECT_EQ(decode(encoded(ref)).path, "");
}

}  // namespace
