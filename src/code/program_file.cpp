#include "code/program_file.hpp"

#include "code/module_image.hpp"
#include "process/unique_fd.hpp"

#include <shmpool/error.hpp>

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <span>
#include <system_error>
#include <vector>

namespace shmpool::code {

namespace {

struct program_in_memory {
  std::vector<std::byte> build_id;  // empty if it has none
  std::uintptr_t address = 0;       // of something in the program
};

program_in_memory running_program() {
  program_in_memory result;
  const auto first = [](dl_phdr_info* info, std::size_t, void* context) -> int {
    auto& to = *static_cast<program_in_memory*>(context);
    const auto id = module_image(*info).build_id();
    to.build_id.assign(id.begin(), id.end());
    to.address = reinterpret_cast<std::uintptr_t>(info->dlpi_phdr);
    return 1;  // the program comes first
  };
  ::dl_iterate_phdr(first, &result);
  return result;
}

bool read_at(int file, std::uint64_t offset, void* to, std::size_t size) noexcept {
  return ::pread(file, to, size, static_cast<off_t>(offset)) == static_cast<ssize_t>(size);
}

/// The build id in the notes of an ELF file; empty if it has none, or is no such file.
std::vector<std::byte> build_id_of(int file) {
  ElfW(Ehdr) header;
  if (!read_at(file, 0, &header, sizeof header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return {};
  for (unsigned i = 0; i != header.e_phnum; ++i) {
    ElfW(Phdr) segment;
    if (!read_at(file, header.e_phoff + i * sizeof segment, &segment, sizeof segment)) return {};
    constexpr std::size_t most = 64 * 1024;
    if (segment.p_type != PT_NOTE || segment.p_filesz > most) continue;
    std::vector<std::byte> notes(segment.p_filesz);
    if (!read_at(file, segment.p_offset, notes.data(), notes.size())) return {};
    const auto id = find_build_id(notes, segment.p_align == 8 ? 8 : 4);
    if (!id.empty()) return {id.begin(), id.end()};
  }
  return {};
}

[[noreturn]] void throw_not_found(const std::string& why) {
  throw std::system_error(errc::fork_server, "this program cannot be executed again, as " + why);
}

}  // namespace

std::string mapped_file(std::uintptr_t address) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR, &begin, &end) != 2) continue;
    if (address < begin || address >= end) continue;
    const auto path = line.find('/');
    return path == std::string::npos ? std::string() : line.substr(path);
  }
  return {};
}

std::string find_program_file() {
  const std::string running = "/proc/thread-self/exe";
  const unique_fd file(::open(running.c_str(), O_RDONLY | O_CLOEXEC));
  const int error = errno;
  if (!file && error == ENOENT) throw_not_found("there is no /proc/thread-self/exe: mount /proc, in a chroot as well");
  const program_in_memory program = running_program();
  const auto is_program = [&](const unique_fd& candidate) {
    return candidate && (program.build_id.empty() || build_id_of(candidate.get()) == program.build_id);
  };
  if (is_program(file)) return running;
  // Another program executes this one: valgrind, or the dynamic loader.
  const std::string path = mapped_file(program.address);
  const unique_fd other(path.empty() ? -1 : ::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (is_program(other)) return path;
  if (!file && !other) throw_not_found(running + " cannot be opened: " + std::system_category().message(error));
  throw_not_found("neither " + running + " nor " + (path.empty() ? "the file that is mapped" : path) +
                  " is the file that it was started from (the build ids differ): start it directly, and leave its file "
                  "where it is");
}

bool gives_privileges(const std::string& path) noexcept {
  const unique_fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info {};
  if (::fstat(file.get(), &info) != 0 || (info.st_mode & (S_ISUID | S_ISGID)) != 0) return true;
  return ::fgetxattr(file.get(), "security.capability", nullptr, 0) >= 0;
}

}  // namespace shmpool::code
