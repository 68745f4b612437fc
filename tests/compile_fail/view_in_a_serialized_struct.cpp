// expect: shmpool: a value holds an address (the last type that is named here)
#include <shmpool/detail/codec/callable.hpp>

#include <string_view>

struct job {
  std::u16string_view name;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(name);
  }
};

job make() {
  return {};
}

int main() {
  return shmpool::detail::task_for<decltype(make)&>::ref(&make).target == nullptr;
}
