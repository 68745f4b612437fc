// All public headers.
//
// Thread safety: see each header.
#pragma once

#include <shmpool/array.hpp>
#include <shmpool/asio.hpp>
#include <shmpool/backend.hpp>
#include <shmpool/bind.hpp>
#include <shmpool/bound_function.hpp>
#include <shmpool/by_value.hpp>
#include <shmpool/error.hpp>
#include <shmpool/init.hpp>
#include <shmpool/options.hpp>
#include <shmpool/process_pool.hpp>
#include <shmpool/register_error_category.hpp>
#include <shmpool/register_exception.hpp>
#include <shmpool/remote_error.hpp>
#include <shmpool/serialize.hpp>
#include <shmpool/shm_handle.hpp>
#include <shmpool/stats.hpp>
#include <shmpool/this_task.hpp>
