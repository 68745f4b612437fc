// The main of every test that makes pools: shmpool::init first, so that the fork server is this program started again.
#include <shmpool/init.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

int main(int argc, char** argv) {
  shmpool::init(argc, argv);
  ::testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
