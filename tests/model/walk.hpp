// Walks all states that the rules of a model lead to.
//
// Thread safety: none is needed.
#pragma once

#include <cstddef>
#include <functional>
#include <set>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace shmpool::model {

template <class State>
struct by_bytes {
  std::size_t operator()(const State& of) const noexcept { return std::hash<std::string_view>{}(of.bytes()); }
  bool operator()(const State& a, const State& b) const noexcept { return a.bytes() == b.bytes(); }
};

template <class Breach>
struct walked {
  std::size_t states = 0;
  std::set<Breach> breaches;
};

/// Visits every state that can be reached from the first; goes no further from one that is broken. `visit` gets the
/// others.
template <class State, class Rules, class Visit>
auto walk_all(const Rules& rules, Visit visit) {
  std::unordered_set<State, by_bytes<State>, by_bytes<State>> seen{State{}};
  std::vector<State> todo{State{}};
  walked<decltype(State::broken)> result;
  while (!todo.empty()) {
    const State from = todo.back();
    todo.pop_back();
    if (from.broken != decltype(State::broken)::none) {
      result.breaches.insert(from.broken);
      continue;
    }
    for (const State& next : rules.successors(from)) {
      if (seen.insert(next).second) todo.push_back(next);
    }
    visit(from);
  }
  result.states = seen.size();
  return result;
}

}  // namespace shmpool::model
